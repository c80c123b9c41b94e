#include "model/relative_rms.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

namespace tigon {

double relative_rms(const at::Tensor& found, const at::Tensor& expected) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (found.sizes() != expected.sizes()) return kInfinity;
  const at::Tensor reference = expected.detach().to(at::kDouble);
  const at::Tensor difference = found.detach().to(reference.device(), at::kDouble) - reference;
  const double error = difference.square().sum().item<double>();
  if (error == 0) return 0;
  const double ratio = std::sqrt(error / reference.square().sum().item<double>());
  return std::isfinite(ratio) ? ratio : kInfinity;
}

}  // namespace tigon
