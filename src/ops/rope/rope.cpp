#include "ops/rope/rope.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/sin.h>
#include <torch/library.h>

#include "ops/checks.h"
#include "ops/rope/rope_call.h"

namespace tigon {

void check_rope(const at::Tensor& x, const at::Tensor& positions,
                const at::Tensor& inverse_frequencies) {
  check_floating("rope", "x", x);
  check_shape("rope", "x", x, {kAnySize, kAnySize, kAnySize});
  TORCH_CHECK(x.size(2) % 2 == 0, "[rope] x: expected an even last dimension, found ", x.size(2));
  check_dtype("rope", "positions", positions, at::kLong);
  check_shape("rope", "positions", positions, {x.size(0)});
  check_device("rope", "positions", positions, x);
  check_dtype("rope", "inverse_frequencies", inverse_frequencies, at::kFloat);
  check_shape("rope", "inverse_frequencies", inverse_frequencies, {x.size(2) / 2});
  check_device("rope", "inverse_frequencies", inverse_frequencies, x);
}

at::Tensor rope_plain(const at::Tensor& x, const at::Tensor& positions,
                      const at::Tensor& inverse_frequencies, double scale) {
  const at::ScalarType type = accumulation_type(x.scalar_type());
  const at::Tensor angles =
      positions.to(type).unsqueeze(1) * inverse_frequencies.to(type);  // [N, D/2]
  const at::Tensor cos = (at::cos(angles) * scale).unsqueeze(1);       // [N, 1, D/2]
  const at::Tensor sin = (at::sin(angles) * scale).unsqueeze(1);
  const at::Tensor wide = x.to(type);
  const int64_t half = x.size(2) / 2;
  const at::Tensor first = wide.narrow(2, 0, half), second = wide.narrow(2, half, half);
  return at::cat({at::addcmul(first * cos, second, sin, -1), at::addcmul(second * cos, first, sin)},
                 2)
      .to(x.scalar_type());
}

namespace {

at::Tensor rope_op(const at::Tensor& x, const at::Tensor& positions,
                   const at::Tensor& inverse_frequencies, double scale) {
  check_rope(x, positions, inverse_frequencies);
  return rope_plain(x, positions, inverse_frequencies, scale);
}

}  // namespace

at::Tensor rope(const at::Tensor& x, const at::Tensor& positions,
                const at::Tensor& inverse_frequencies, double scale) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("tigon::rope", "").typed<decltype(rope_op)>();
  return op.call(x, positions, inverse_frequencies, scale);
}

TORCH_LIBRARY_FRAGMENT(tigon, m) {
  m.def("rope(Tensor x, Tensor positions, Tensor inverse_frequencies, float scale=1.0) -> Tensor");
}

TORCH_LIBRARY_IMPL(tigon, CompositeImplicitAutograd, m) {
  m.impl("rope", rope_op);
}

}  // namespace tigon
