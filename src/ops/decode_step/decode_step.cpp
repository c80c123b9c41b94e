#include "ops/decode_step/decode_step.h"

#include <ATen/Functions.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <limits>

#include "ops/checks.h"
#include "ops/rope/rope.h"
#include "ops/stochastic_round/stochastic_round.h"

namespace tigon {
namespace {

void check_same_device(const char* op, const DecodeTokens& tokens, const DecodeState& state) {
  check_device(op, "k", tokens.k, tokens.q);
  check_device(op, "v", tokens.v, tokens.q);
  check_device(op, "positions", tokens.positions, tokens.q);
  check_device(op, "inverse_frequencies", tokens.inverse_frequencies, tokens.q);
  check_device(op, "ring_keys", state.ring_keys, tokens.q);
  check_device(op, "ring_values", state.ring_values, tokens.q);
  check_device(op, "matrices", state.matrices, tokens.q);
  if (state.slots) check_device(op, "slots", *state.slots, tokens.q);
}

// From 0 to `most`. On a GPU, where looking would stall the queue, the kernels look.
void check_numbers(const char* op, const char* name, const at::Tensor& x, int64_t most) {
  if (!x.is_cpu() || x.numel() == 0) return;
  const auto [least_found, most_found] = x.aminmax();
  const int64_t low = least_found.item<int64_t>(), high = most_found.item<int64_t>();
  TORCH_CHECK(low >= 0 && high <= most, "[", op, "] ", name, ": expected numbers from 0 to ", most,
              ", found ", low < 0 ? low : high);
}

void check_no_gradient(const char* op, const DecodeTokens& tokens, const DecodeState& state,
                       at::TensorList others) {
  if (!c10::GradMode::is_enabled()) return;
  const auto check = [&](const at::Tensor& x) {
    TORCH_CHECK(!x.requires_grad(), "[", op,
                "] expected inputs that require no gradient, which this op does not have, found one"
                " that requires it");
  };
  for (const at::Tensor& x : {tokens.q, tokens.k, tokens.v, tokens.inverse_frequencies,
                              state.ring_keys, state.ring_values, state.matrices}) {
    check(x);
  }
  for (const at::Tensor& x : others) check(x);
}

void check_matrices_dtype(const char* op, const DecodeTokens& tokens, const DecodeState& state) {
  const at::ScalarType wide = accumulation_type(tokens.q.scalar_type());
  const at::ScalarType found = state.matrices.scalar_type();
  if (found == at::kBFloat16 && wide == at::kFloat) return;
  TORCH_CHECK(found == wide, "[", op, "] matrices: expected dtype ", wide,
              wide == at::kFloat ? " or BFloat16" : "", ", found ", found);
}

}  // namespace

void check_decode_step(const char* op, const DecodeTokens& tokens, const DecodeState& state,
                       at::TensorList others) {
  check_queries_keys_values(op, tokens.q, tokens.k, tokens.v);
  const int64_t S = tokens.q.size(0), H = tokens.q.size(1), D = tokens.q.size(2);
  const int64_t Hkv = tokens.k.size(1);
  check_shape(op, "k", tokens.k, {S, Hkv, D});
  TORCH_CHECK(Hkv > 0 && H % Hkv == 0, "[", op, "] k: expected a number of heads that divides ", H,
              ", found ", Hkv);
  TORCH_CHECK(D % 2 == 0, "[", op, "] q: expected an even last dimension, found ", D);
  check_dtype(op, "positions", tokens.positions, at::kLong);
  check_shape(op, "positions", tokens.positions, {S});
  check_dtype(op, "inverse_frequencies", tokens.inverse_frequencies, at::kFloat);
  check_shape(op, "inverse_frequencies", tokens.inverse_frequencies, {D / 2});
  check_floating(op, "ring_keys", state.ring_keys);
  check_shape(op, "ring_keys", state.ring_keys, {kAnySize, kAnySize, Hkv, D});
  const int64_t slots = state.ring_keys.size(0), W = state.ring_keys.size(1);
  TORCH_CHECK(W > 0, "[", op, "] ring_keys: expected 1 row or more, found ", W);
  check_dtype(op, "ring_values", state.ring_values, state.ring_keys.scalar_type());
  check_shape(op, "ring_values", state.ring_values, {slots, W, Hkv, D});
  check_matrices_dtype(op, tokens, state);
  check_shape(op, "matrices", state.matrices, {slots, Hkv, kAnySize, kAnySize});
  if (state.slots) {
    check_dtype(op, "slots", *state.slots, at::kLong);
    check_shape(op, "slots", *state.slots, {S});
  } else {
    TORCH_CHECK(S == slots, "[", op, "] q: expected a token for each of the ", slots,
                " slots where no slots are given, found ", S);
  }
  check_same_device(op, tokens, state);
  check_numbers(op, "positions", tokens.positions, std::numeric_limits<int64_t>::max());
  if (state.slots) check_numbers(op, "slots", *state.slots, slots - 1);
  check_no_gradient(op, tokens, state, others);
}

at::Tensor of_slots(const DecodeState& state, const at::Tensor& x) {
  return state.slots ? x.index_select(0, *state.slots) : x;
}

at::Tensor read_matrices(const DecodeTokens& tokens, const DecodeState& state) {
  return of_slots(state, state.matrices).to(accumulation_type(tokens.q.scalar_type()));
}

void write_matrices(const DecodeTokens& tokens, const DecodeState& state,
                    const at::Tensor& matrices) {
  const bool is_rounded = state.matrices.scalar_type() == at::kBFloat16;
  const at::Tensor kept = is_rounded ? stochastic_round(matrices, tokens.positions) : matrices;
  if (state.slots) {
    state.matrices.index_copy_(0, *state.slots, kept);
  } else {
    state.matrices.copy_(kept);
  }
}

NewestRows::NewestRows(const DecodeTokens& tokens, const DecodeState& state)
    : slots(state.slots ? *state.slots : at::arange(tokens.q.size(0), tokens.positions.options())),
      rows(tokens.positions.remainder(state.ring_keys.size(1))) {}

at::Tensor NewestRows::get(const at::Tensor& ring) const {
  return ring.index({slots, rows});
}

void NewestRows::put(const at::Tensor& ring, const at::Tensor& x) const {
  ring.index_put_({slots, rows}, x.to(ring.scalar_type()));
}

RingAttention attend_ring(const DecodeTokens& tokens, const DecodeState& state,
                          const NewestRows& newest, bool return_lse) {
  const int64_t S = tokens.q.size(0), H = tokens.q.size(1), D = tokens.q.size(2);
  const int64_t W = state.ring_keys.size(1), Hkv = tokens.k.size(1);
  const at::ScalarType type = accumulation_type(tokens.q.scalar_type());
  newest.put(state.ring_keys, tokens.k);
  newest.put(state.ring_values, tokens.v);

  const at::Tensor age =  // [S, W] tokens since the key of each row
      (newest.rows.unsqueeze(1) - at::arange(W, newest.rows.options())).remainder(W);
  const at::Tensor key_positions = tokens.positions.unsqueeze(1) - age;  // below 0: no key yet
  const auto rotated = [&](const at::Tensor& x, const at::Tensor& positions) {
    return rope(x.to(type), positions, tokens.inverse_frequencies, tokens.rope_scale);
  };
  const at::Tensor q = rotated(tokens.q, tokens.positions).view({S, Hkv, H / Hkv, D}) /
                       std::sqrt(static_cast<double>(D));
  const at::Tensor keys =
      rotated(of_slots(state, state.ring_keys).flatten(0, 1), key_positions.flatten())
          .view({S, W, Hkv, D});
  const at::Tensor scores =  // [S, Hkv, H/Hkv, W]
      q.matmul(keys.permute({0, 2, 3, 1}))
          .masked_fill_(key_positions.lt(0).view({S, 1, 1, W}),
                        -std::numeric_limits<double>::infinity());
  const at::Tensor values = of_slots(state, state.ring_values).to(type).transpose(1, 2);
  return {scores.softmax(-1).matmul(values).flatten(1, 2),
          return_lse ? scores.logsumexp(-1).flatten(1, 2) : at::Tensor()};
}

}  // namespace tigon
