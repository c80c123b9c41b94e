#include "model/relative_rms.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

namespace tigon {

double relative_rms(const at::Tensor& found, const at::Tensor& expected) {
  if (found.sizes() != expected.sizes()) return std::numeric_limits<double>::infinity();
  const at::Tensor reference = expected.detach().to(at::kDouble);
  const at::Tensor difference = found.detach().to(reference.device(), at::kDouble) - reference;
  const double error = difference.square().sum().item<double>();
  if (error == 0) return 0;
  return std::sqrt(error / reference.square().sum().item<double>());
}

}  // namespace tigon
