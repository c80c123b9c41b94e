#include "ops/liger_attention/liger_attention.h"

#include <ATen/Functions.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <tuple>

#include "ops/checks.h"
#include "ops/liger_attention/liger_attention_call.h"
#include "ops/rope/rope.h"
#include "ops/window_attention/window_attention.h"

namespace tigon {
namespace {

// The rows whose key has a query.
at::Tensor select(const at::Tensor& x, const at::Tensor& rows) {
  return rows.defined() ? x.index_select(0, rows) : x;
}

std::tuple<at::Tensor, at::Tensor> liger_attention_op(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& key_positions,
    const at::Tensor& inverse_frequencies, const at::Tensor& cu_seqlens, int64_t window_keys,
    double gate_normalizer, double mix, const std::optional<at::Tensor>& initial_state,
    double rope_scale, const std::optional<at::Tensor>& key_cu_seqlens,
    at::OptionalIntArrayRef lengths, at::OptionalIntArrayRef key_lengths) {
  const LigerAttentionResult result = liger_attention_plain(check_liger_attention(
      q, k, v, key_positions, inverse_frequencies, cu_seqlens, window_keys, gate_normalizer, mix,
      initial_state, rope_scale, key_cu_seqlens, lengths, key_lengths));
  return {result.out, result.state};
}

}  // namespace

// Only what the parts cannot know: rope, window_attention and gated_scan check their own arguments.
LigerAttentionCall check_liger_attention(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& key_positions,
    const at::Tensor& inverse_frequencies, const at::Tensor& cu_seqlens, int64_t window_keys,
    double gate_normalizer, double mix, const std::optional<at::Tensor>& initial_state,
    double rope_scale, const std::optional<at::Tensor>& key_cu_seqlens,
    at::OptionalIntArrayRef lengths, at::OptionalIntArrayRef key_lengths) {
  constexpr const char* kOp = "liger_attention";
  check_queries_keys_values(kOp, q, k, v);
  check_shape(kOp, "key_positions", key_positions, {k.size(0)});
  TORCH_CHECK(window_keys > 0, "[liger_attention] window_keys: expected 1 or more, found ",
              window_keys);
  TORCH_CHECK(gate_normalizer > 0,
              "[liger_attention] gate_normalizer: expected more than 0, found ", gate_normalizer);
  TORCH_CHECK(mix >= 0 && mix <= 1, "[liger_attention] mix: expected from 0 to 1, found ", mix);
  LigerAttentionCall call{
      .q = q,
      .k = k,
      .v = v,
      .key_positions = key_positions,
      .inverse_frequencies = inverse_frequencies,
      .segments = Segments::from_op_arguments(cu_seqlens, lengths, q.size(0)),
      .key_segments = {},
      .options = {window_keys, gate_normalizer, mix, rope_scale},
      .initial_state = initial_state,
  };
  call.key_segments =
      Segments::keys_from_op_arguments(key_cu_seqlens, key_lengths, k.size(0), call.segments);
  return call;
}

LigerAttentionResult liger_attention_plain(const LigerAttentionCall& call) {
  const auto& [q, k, v, positions, frequencies, segments, key_segments, options, initial_state] =
      call;
  const at::Tensor rotated_k = rope(k, positions, frequencies, options.rope_scale);
  const at::Tensor rows = query_rows(segments, key_segments);
  const at::Tensor rotated_q = rope(q, select(positions, rows), frequencies, options.rope_scale);
  const at::Tensor near = window_attention(rotated_q, rotated_k, v, segments, key_segments,
                                           {options.window_keys, 0, 0, false})
                              .out;
  const GatedScanResult far = liger_recurrence(q, select(k, rows), select(v, rows), segments,
                                               options.gate_normalizer, initial_state);
  return {at::lerp(near, far.out, options.mix), far.state};
}

LigerAttentionResult liger_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                     const at::Tensor& key_positions,
                                     const at::Tensor& inverse_frequencies,
                                     const Segments& segments, const Segments& key_segments,
                                     const LigerAttentionOptions& options,
                                     const std::optional<at::Tensor>& initial_state) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tigon::liger_attention", "")
                             .typed<decltype(liger_attention_op)>();
  const auto [out, state] =
      op.call(q, k, v, key_positions, inverse_frequencies, segments.cu_seqlens, options.window_keys,
              options.gate_normalizer, options.mix, initial_state, options.rope_scale,
              key_segments.cu_seqlens, segments.lengths, key_segments.lengths);
  return {out, state};
}

GatedScanResult liger_recurrence(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                 const Segments& segments, double gate_normalizer,
                                 const std::optional<at::Tensor>& initial_state) {
  const at::ScalarType type = accumulation_type(q.scalar_type());
  const at::Tensor wide_k = k.to(type);
  const at::Tensor log_gate = at::log_sigmoid(wide_k) / gate_normalizer;
  return gated_scan(q.softmax(-1, type), wide_k.softmax(-1), v, log_gate, segments, initial_state);
}

TORCH_LIBRARY_FRAGMENT(tigon, m) {
  m.def(
      "liger_attention(Tensor q, Tensor k, Tensor v, Tensor key_positions, "
      "Tensor inverse_frequencies, Tensor cu_seqlens, int window_keys=64, "
      "float gate_normalizer=16, float mix=0.5, Tensor? initial_state=None, float rope_scale=1, "
      "Tensor? key_cu_seqlens=None, int[]? lengths=None, int[]? key_lengths=None) "
      "-> (Tensor out, Tensor state)");
}

TORCH_LIBRARY_IMPL(tigon, CompositeImplicitAutograd, m) {
  m.impl("liger_attention", liger_attention_op);
}

}  // namespace tigon
