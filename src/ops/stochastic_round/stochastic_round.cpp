#include "ops/stochastic_round/stochastic_round.h"

#include <ATen/Functions.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/GradMode.h>
#include <torch/library.h>

#include "ops/checks.h"

namespace tigon {
namespace {

constexpr const char* kOp = "stochastic_round";
constexpr int64_t kWord = 0xffffffff, kHalf = 0xffff;  // masks of 32 and 16 bits

/// x int64 from 0 to 2³²−1; no product leaves int64.
at::Tensor mix(at::Tensor x) {
  for (int round = 0; round < 2; ++round) {
    x = x.bitwise_xor(x.bitwise_right_shift(16)).mul(0x045d9f3b).bitwise_and(kWord);
  }
  return x.bitwise_xor(x.bitwise_right_shift(16));
}

/// [S, count] int32 from 0 to 65535.
at::Tensor random_halves(const at::Tensor& positions, int64_t count) {
  const at::Tensor key = mix(positions.add(0x9e3779b9).bitwise_and(kWord)).unsqueeze(1);
  const at::Tensor pairs = at::arange((count + 1) / 2, positions.options());
  const at::Tensor words = mix(key.add(pairs).bitwise_and(kWord));
  return at::stack({words.bitwise_and(kHalf), words.bitwise_right_shift(16)}, -1)
      .flatten(1)
      .narrow(1, 0, count)
      .to(at::kInt);
}

at::Tensor stochastic_round_op(const at::Tensor& x, const at::Tensor& positions) {
  check_dtype(kOp, "x", x, at::kFloat);
  TORCH_CHECK(x.dim() >= 1, "[", kOp, "] x: expected at least 1 dimension, found none");
  check_dtype(kOp, "positions", positions, at::kLong);
  check_shape(kOp, "positions", positions, {x.size(0)});
  check_device(kOp, "positions", positions, x);
  TORCH_CHECK(!(c10::GradMode::is_enabled() && x.requires_grad()), "[", kOp,
              "] x: expected a tensor that requires no gradient, found one that requires it");
  const at::NoGradGuard no_grad;
  if (x.numel() == 0) return x.to(at::kBFloat16);
  const at::Tensor flat = x.reshape({x.size(0), -1}).contiguous();
  const at::Tensor words = flat.view(at::kInt);
  const auto upper_half = [](const at::Tensor& bits) {
    return bits.bitwise_and(~kHalf).view(at::kFloat);
  };
  const at::Tensor moved = upper_half(words.add(random_halves(positions, flat.size(1))));
  // Next to infinity only the way down is left.
  const at::Tensor finite = at::where(moved.isfinite(), moved, upper_half(words));
  return at::where(flat.isfinite(), finite, flat).to(at::kBFloat16).view(x.sizes());
}

}  // namespace

at::Tensor stochastic_round(const at::Tensor& x, const at::Tensor& positions) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tigon::stochastic_round", "")
                             .typed<decltype(stochastic_round_op)>();
  return op.call(x, positions);
}

TORCH_LIBRARY_FRAGMENT(tigon, m) {
  m.def("stochastic_round(Tensor x, Tensor positions) -> Tensor");
}

TORCH_LIBRARY_IMPL(tigon, CompositeImplicitAutograd, m) {
  m.impl("stochastic_round", stochastic_round_op);
}

}  // namespace tigon
