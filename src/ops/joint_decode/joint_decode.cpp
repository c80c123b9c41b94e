#include "ops/joint_decode/joint_decode.h"

#include <ATen/Functions.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/GradMode.h>
#include <torch/library.h>

#include "ops/checks.h"
#include "ops/joint_attention/joint_attention_parts.h"
#include "ops/joint_decode/joint_decode_call.h"

namespace tigon {
namespace {

constexpr const char* kOp = "joint_decode";

at::Tensor joint_decode_op(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& positions, const at::Tensor& inverse_frequencies,
                           const at::Tensor& w_q, const at::Tensor& b_q, const at::Tensor& w_k,
                           const at::Tensor& b_k, const at::Tensor& log_importance,
                           const at::Tensor& log_mix, const at::Tensor& log_tau,
                           const at::Tensor& ring_keys, const at::Tensor& ring_values,
                           const at::Tensor& ring_log_importance, const at::Tensor& matrices,
                           const std::optional<at::Tensor>& slots, double rope_scale,
                           bool second_order) {
  const JointDecodeCall call{.tokens = {q, k, v, positions, inverse_frequencies, rope_scale},
                             .logits = {log_importance, log_mix},
                             .parameters = {w_q, b_q, w_k, b_k, log_tau, second_order},
                             .state = {ring_keys, ring_values, matrices, slots},
                             .ring_log_importance = ring_log_importance};
  check_joint_decode(call);
  return joint_decode_plain(call);
}

}  // namespace

void check_joint_decode(const JointDecodeCall& call) {
  const auto& [tokens, logits, p, state, ring_log_importance] = call;
  check_decode_step(kOp, tokens, state,
                    {logits.log_importance, logits.log_mix, p.w_q, p.b_q, p.w_k, p.b_k, p.log_tau,
                     ring_log_importance});
  const at::Tensor& q = tokens.q;
  const int64_t S = q.size(0), H = q.size(1), D = q.size(2), Hkv = tokens.k.size(1);
  check_joint_parameters(kOp, p, q, Hkv);
  check_shape(kOp, "matrices", state.matrices,
              {state.matrices.size(0), Hkv, p.log_tau.size(1), D + 1});
  check_joint_input(kOp, "log_importance", logits.log_importance, q, {S, Hkv});
  check_joint_input(kOp, "log_mix", logits.log_mix, q, {S, H});
  check_dtype(kOp, "ring_log_importance", ring_log_importance, accumulation_type(q.scalar_type()));
  check_shape(kOp, "ring_log_importance", ring_log_importance,
              {state.ring_keys.size(0), state.ring_keys.size(1), Hkv});
  check_device(kOp, "ring_log_importance", ring_log_importance, q);
}

at::Tensor joint_decode_plain(const JointDecodeCall& call) {
  const at::NoGradGuard no_grad;
  const auto& [tokens, logits, p, state, ring_log_importance] = call;
  const int64_t Hkv = tokens.k.size(1);
  const at::ScalarType type = accumulation_type(tokens.q.scalar_type());
  const NewestRows newest(tokens, state);

  // The key that leaves lies where the new one will.
  const at::Tensor leaves = tokens.positions.ge(state.ring_keys.size(1)).view({-1, 1, 1, 1});
  const at::Tensor features =
      joint_key_features(newest.get(state.ring_keys).to(type), p) *
      joint_importance(newest.get(ring_log_importance), type).unsqueeze(-1);  // [S, Hkv, E]
  const at::Tensor values =
      at::constant_pad_nd(newest.get(state.ring_values).to(type), {0, 1}, 1);  // [S, Hkv, D+1]
  newest.put(ring_log_importance, logits.log_importance);
  const RingAttention near = attend_ring(tokens, state, newest);

  const at::Tensor before = read_matrices(tokens, state);
  const at::Tensor decay = joint_log_decay(p.log_tau, type).exp().unsqueeze(-1);  // [Hkv, E, 1]
  const at::Tensor matrices =
      at::where(leaves, before * decay + features.unsqueeze(-1) * values.unsqueeze(-2), before);
  write_matrices(tokens, state, matrices);
  const at::Tensor scan = joint_query_features(tokens.q.to(type), p)
                              .unflatten(1, {Hkv, -1})
                              .matmul(matrices)
                              .flatten(1, 2);  // [S, H, D+1]
  return under_one_denominator(near.out, near.lse, scan, logits.log_mix).to(tokens.q.scalar_type());
}

at::Tensor joint_decode(const DecodeTokens& tokens, const JointDecodeLogits& logits,
                        const JointAttentionParameters& parameters, const DecodeState& state,
                        const at::Tensor& ring_log_importance) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tigon::joint_decode", "")
                             .typed<decltype(joint_decode_op)>();
  return op.call(tokens.q, tokens.k, tokens.v, tokens.positions, tokens.inverse_frequencies,
                 parameters.w_q, parameters.b_q, parameters.w_k, parameters.b_k,
                 logits.log_importance, logits.log_mix, parameters.log_tau, state.ring_keys,
                 state.ring_values, ring_log_importance, state.matrices, state.slots,
                 tokens.rope_scale, parameters.second_order);
}

TORCH_LIBRARY_FRAGMENT(tigon, m) {
  m.def(
      "joint_decode(Tensor q, Tensor k, Tensor v, Tensor positions, Tensor inverse_frequencies, "
      "Tensor w_q, Tensor b_q, Tensor w_k, Tensor b_k, Tensor log_importance, Tensor log_mix, "
      "Tensor log_tau, Tensor(a!) ring_keys, Tensor(b!) ring_values, "
      "Tensor(c!) ring_log_importance, Tensor(d!) matrices, Tensor? slots=None, "
      "float rope_scale=1, bool second_order=False) -> Tensor");
}

TORCH_LIBRARY_IMPL(tigon, CompositeImplicitAutograd, m) {
  m.impl("joint_decode", joint_decode_op);
}

}  // namespace tigon
