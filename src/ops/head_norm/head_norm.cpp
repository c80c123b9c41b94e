#include "ops/head_norm/head_norm.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/rsqrt.h>
#include <torch/library.h>

#include "ops/checks.h"
#include "ops/head_norm/head_norm_call.h"

namespace tigon {

void check_head_norm(const at::Tensor& x, double eps) {
  check_floating("head_norm", "x", x);
  check_shape("head_norm", "x", x, {kAnySize, kAnySize, kAnySize});
  TORCH_CHECK(x.size(2) > 0, "[head_norm] x: expected a head size above 0, found 0");
  TORCH_CHECK(eps > 0, "[head_norm] eps: expected a number > 0, found ", eps);
}

at::Tensor head_norm_plain(const at::Tensor& x, double eps) {
  const at::Tensor wide = x.to(accumulation_type(x.scalar_type()));
  const at::Tensor centred = wide - at::mean(wide, -1, /*keepdim=*/true);
  const at::Tensor variance = at::mean(centred * centred, -1, /*keepdim=*/true);  // [N, H, 1]
  return (centred * at::rsqrt(variance + eps)).to(x.scalar_type());
}

namespace {

at::Tensor head_norm_op(const at::Tensor& x, double eps) {
  check_head_norm(x, eps);
  return head_norm_plain(x, eps);
}

}  // namespace

at::Tensor head_norm(const at::Tensor& x, double eps) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tigon::head_norm", "")
                             .typed<decltype(head_norm_op)>();
  return op.call(x, eps);
}

TORCH_LIBRARY_FRAGMENT(tigon, m) {
  m.def("head_norm(Tensor x, float eps) -> Tensor");
}

TORCH_LIBRARY_IMPL(tigon, CompositeImplicitAutograd, m) {
  m.impl("head_norm", head_norm_op);
}

}  // namespace tigon
