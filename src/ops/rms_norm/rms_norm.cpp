#include "ops/rms_norm/rms_norm.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/rsqrt.h>
#include <torch/library.h>

#include "ops/checks.h"

namespace tigon {
namespace {

at::Tensor rms_norm_plain(const at::Tensor& x, const at::Tensor& weight, double eps) {
  check_floating("rms_norm", "x", x);
  check_shape("rms_norm", "x", x, {kAnySize, kAnySize});
  check_floating("rms_norm", "weight", weight);
  check_shape("rms_norm", "weight", weight, {x.size(1)});
  check_device("rms_norm", "weight", weight, x);
  TORCH_CHECK(eps >= 0, "[rms_norm] eps: expected a number >= 0, found ", eps);

  const at::Tensor wide = x.to(accumulation_type(x.scalar_type()));
  const at::Tensor inverse =
      at::rsqrt(at::mean(wide * wide, -1, /*keepdim=*/true) + eps);  // [N, 1]
  return (wide * inverse).to(x.scalar_type()) * weight.to(x.scalar_type());
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tigon::rms_norm", "")
                             .typed<at::Tensor(const at::Tensor&, const at::Tensor&, double)>();
  return op.call(x, weight, eps);
}

}  // namespace tigon

TORCH_LIBRARY_FRAGMENT(tigon, m) {
  m.def("rms_norm(Tensor x, Tensor weight, float eps) -> Tensor");
}

TORCH_LIBRARY_IMPL(tigon, CompositeImplicitAutograd, m) {
  m.impl("rms_norm", tigon::rms_norm_plain);
}
