#include "ops/liger_decode/liger_decode.h"

#include <ATen/Functions.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/GradMode.h>
#include <torch/library.h>

#include "ops/checks.h"
#include "ops/liger_decode/liger_decode_call.h"

namespace tigon {
namespace {

at::Tensor liger_decode_op(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& positions, const at::Tensor& inverse_frequencies,
                           const at::Tensor& ring_keys, const at::Tensor& ring_values,
                           const at::Tensor& matrices, const std::optional<at::Tensor>& slots,
                           double gate_normalizer, double mix, double rope_scale) {
  return liger_decode_plain(check_liger_decode(q, k, v, positions, inverse_frequencies, ring_keys,
                                               ring_values, matrices, slots, gate_normalizer, mix,
                                               rope_scale));
}

}  // namespace

LigerDecodeCall check_liger_decode(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const at::Tensor& positions,
                                   const at::Tensor& inverse_frequencies,
                                   const at::Tensor& ring_keys, const at::Tensor& ring_values,
                                   const at::Tensor& matrices,
                                   const std::optional<at::Tensor>& slots, double gate_normalizer,
                                   double mix, double rope_scale) {
  const LigerDecodeCall call{.tokens = {q, k, v, positions, inverse_frequencies, rope_scale},
                             .state = {ring_keys, ring_values, matrices, slots},
                             .options = {gate_normalizer, mix}};
  check_decode_step("liger_decode", call.tokens, call.state, {});
  check_shape("liger_decode", "matrices", matrices,
              {matrices.size(0), k.size(1), q.size(2), q.size(2)});
  TORCH_CHECK(gate_normalizer > 0, "[liger_decode] gate_normalizer: expected more than 0, found ",
              gate_normalizer);
  TORCH_CHECK(mix >= 0 && mix <= 1, "[liger_decode] mix: expected from 0 to 1, found ", mix);
  return call;
}

at::Tensor liger_decode_plain(const LigerDecodeCall& call) {
  const at::NoGradGuard no_grad;
  const auto& [tokens, state, options] = call;
  const int64_t Hkv = tokens.k.size(1);
  const at::ScalarType type = accumulation_type(tokens.q.scalar_type());
  const at::Tensor k = tokens.k.to(type);
  const at::Tensor near =
      attend_ring(tokens, state, NewestRows(tokens, state), /*return_lse=*/false).out;
  const at::Tensor gate = (at::log_sigmoid(k) / options.gate_normalizer).exp();  // [S, Hkv, D]
  const at::Tensor matrices =
      read_matrices(tokens, state) * gate.unsqueeze(-1) +
      k.softmax(-1).unsqueeze(-1) * tokens.v.to(type).unsqueeze(-2);  // [S, Hkv, D, D]
  write_matrices(tokens, state, matrices);
  const at::Tensor far =
      tokens.q.softmax(-1, type).unflatten(1, {Hkv, -1}).matmul(matrices).flatten(1, 2);
  return at::lerp(near, far, options.mix).to(tokens.q.scalar_type());
}

at::Tensor liger_decode(const DecodeTokens& tokens, const DecodeState& state,
                        const LigerDecodeOptions& options) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tigon::liger_decode", "")
                             .typed<decltype(liger_decode_op)>();
  return op.call(tokens.q, tokens.k, tokens.v, tokens.positions, tokens.inverse_frequencies,
                 state.ring_keys, state.ring_values, state.matrices, state.slots,
                 options.gate_normalizer, options.mix, tokens.rope_scale);
}

TORCH_LIBRARY_FRAGMENT(tigon, m) {
  m.def(
      "liger_decode(Tensor q, Tensor k, Tensor v, Tensor positions, Tensor inverse_frequencies, "
      "Tensor(a!) ring_keys, Tensor(b!) ring_values, Tensor(c!) matrices, Tensor? slots=None, "
      "float gate_normalizer=16, float mix=0.5, float rope_scale=1) -> Tensor");
}

TORCH_LIBRARY_IMPL(tigon, CompositeImplicitAutograd, m) {
  m.impl("liger_decode", liger_decode_op);
}

}  // namespace tigon
