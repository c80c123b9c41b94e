#include "ops/rms_norm/rms_norm.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/rsqrt.h>
#include <torch/library.h>

#include "ops/checks.h"
#include "ops/rms_norm/rms_norm_call.h"

namespace tigon {

void check_rms_norm(const char* op, const at::Tensor& x, const at::Tensor& weight, double eps) {
  check_floating(op, "x", x);
  check_shape(op, "x", x, {kAnySize, kAnySize});
  check_floating(op, "weight", weight);
  check_shape(op, "weight", weight, {x.size(1)});
  check_device(op, "weight", weight, x);
  TORCH_CHECK(eps >= 0, "[", op, "] eps: expected a number >= 0, found ", eps);
}

void check_add_rms_norm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                        double eps) {
  const char* op = "add_rms_norm";
  check_rms_norm(op, x, weight, eps);
  check_dtype(op, "residual", residual, x.scalar_type());
  check_shape(op, "residual", residual, {x.size(0), x.size(1)});
  check_device(op, "residual", residual, x);
}

at::Tensor rms_norm_plain(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const at::Tensor wide = x.to(accumulation_type(x.scalar_type()));
  const at::Tensor inverse =
      at::rsqrt(at::mean(wide * wide, -1, /*keepdim=*/true) + eps);  // [N, 1]
  return (wide * inverse).to(x.scalar_type()) * weight.to(x.scalar_type());
}

std::tuple<at::Tensor, at::Tensor> add_rms_norm_plain(const at::Tensor& x,
                                                      const at::Tensor& residual,
                                                      const at::Tensor& weight, double eps) {
  const at::Tensor sum = x + residual;
  return {sum, rms_norm_plain(sum, weight, eps)};
}

namespace {

at::Tensor rms_norm_op(const at::Tensor& x, const at::Tensor& weight, double eps) {
  check_rms_norm("rms_norm", x, weight, eps);
  return rms_norm_plain(x, weight, eps);
}

std::tuple<at::Tensor, at::Tensor> add_rms_norm_op(const at::Tensor& x, const at::Tensor& residual,
                                                   const at::Tensor& weight, double eps) {
  check_add_rms_norm(x, residual, weight, eps);
  return add_rms_norm_plain(x, residual, weight, eps);
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tigon::rms_norm", "")
                             .typed<decltype(rms_norm_op)>();
  return op.call(x, weight, eps);
}

AddRmsNormResult add_rms_norm(const at::Tensor& x, const at::Tensor& residual,
                              const at::Tensor& weight, double eps) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tigon::add_rms_norm", "")
                             .typed<decltype(add_rms_norm_op)>();
  const auto [sum, normed] = op.call(x, residual, weight, eps);
  return {sum, normed};
}

TORCH_LIBRARY_FRAGMENT(tigon, m) {
  m.def("rms_norm(Tensor x, Tensor weight, float eps) -> Tensor");
  m.def(
      "add_rms_norm(Tensor x, Tensor residual, Tensor weight, float eps) "
      "-> (Tensor sum, Tensor normed)");
}

TORCH_LIBRARY_IMPL(tigon, CompositeImplicitAutograd, m) {
  m.impl("rms_norm", rms_norm_op);
  m.impl("add_rms_norm", add_rms_norm_op);
}

}  // namespace tigon
