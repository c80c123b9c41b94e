#include "ops/joint_attention/joint_attention.h"

#include <ATen/Functions.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <tuple>

#include "ops/checks.h"
#include "ops/gated_scan/gated_scan.h"
#include "ops/joint_attention/joint_attention_call.h"
#include "ops/joint_attention/joint_attention_parts.h"
#include "ops/rope/rope.h"
#include "ops/window_attention/window_attention.h"

namespace tigon {
namespace {

constexpr const char* kOp = "joint_attention";

std::tuple<at::Tensor, at::Tensor> joint_attention_op(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& key_positions,
    const at::Tensor& inverse_frequencies, const at::Tensor& w_q, const at::Tensor& b_q,
    const at::Tensor& w_k, const at::Tensor& b_k, const at::Tensor& log_importance,
    const at::Tensor& log_mix, const at::Tensor& log_tau, const at::Tensor& cu_seqlens,
    int64_t window_keys, const std::optional<at::Tensor>& initial_state, double rope_scale,
    const std::optional<at::Tensor>& key_cu_seqlens, at::OptionalIntArrayRef lengths,
    at::OptionalIntArrayRef key_lengths, bool second_order) {
  const JointAttentionResult result = joint_attention_plain(check_joint_attention(
      q, k, v, key_positions, inverse_frequencies, w_q, b_q, w_k, b_k, log_importance, log_mix,
      log_tau, cu_seqlens, window_keys, initial_state, rope_scale, key_cu_seqlens, lengths,
      key_lengths, second_order));
  return {result.out, result.state};
}

}  // namespace

// Only what the parts cannot know: rope, window_attention and gated_scan check their own arguments.
JointAttentionCall check_joint_attention(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& key_positions,
    const at::Tensor& inverse_frequencies, const at::Tensor& w_q, const at::Tensor& b_q,
    const at::Tensor& w_k, const at::Tensor& b_k, const at::Tensor& log_importance,
    const at::Tensor& log_mix, const at::Tensor& log_tau, const at::Tensor& cu_seqlens,
    int64_t window_keys, const std::optional<at::Tensor>& initial_state, double rope_scale,
    const std::optional<at::Tensor>& key_cu_seqlens, at::OptionalIntArrayRef lengths,
    at::OptionalIntArrayRef key_lengths, bool second_order) {
  check_queries_keys_values(kOp, q, k, v);
  const int64_t N = q.size(0), H = q.size(1), M = k.size(0), Hkv = k.size(1);
  const JointAttentionParameters maps{w_q, b_q, w_k, b_k, log_tau, second_order};
  check_shape(kOp, "key_positions", key_positions, {M});
  check_joint_parameters(kOp, maps, q, Hkv);
  check_joint_input(kOp, "log_importance", log_importance, q, {M, Hkv});
  check_joint_input(kOp, "log_mix", log_mix, q, {N, H});
  TORCH_CHECK(window_keys > 0, "[", kOp, "] window_keys: expected 1 or more, found ", window_keys);
  JointAttentionCall call{
      .q = q,
      .k = k,
      .v = v,
      .key_positions = key_positions,
      .inverse_frequencies = inverse_frequencies,
      .maps = maps,
      .log_importance = log_importance,
      .log_mix = log_mix,
      .segments = Segments::from_op_arguments(cu_seqlens, lengths, N),
      .key_segments = {},
      .options = {window_keys, rope_scale},
      .initial_state = initial_state,
  };
  call.key_segments =
      Segments::keys_from_op_arguments(key_cu_seqlens, key_lengths, M, call.segments);
  return call;
}

at::Tensor query_positions(const JointAttentionCall& call) {
  const at::Tensor rows = query_rows(call.segments, call.key_segments);
  return rows.defined() ? call.key_positions.index_select(0, rows) : call.key_positions;
}

JointAttentionResult joint_attention_plain(const JointAttentionCall& call) {
  const at::ScalarType type = accumulation_type(call.q.scalar_type());
  const at::Tensor q = call.q.to(type), k = call.k.to(type), v = call.v.to(type);
  const double rope_scale = call.options.rope_scale;
  const auto [near, lse] = window_attention(
      rope(q, query_positions(call), call.inverse_frequencies, rope_scale),
      rope(k, call.key_positions, call.inverse_frequencies, rope_scale), v, call.segments,
      call.key_segments, {call.options.window_keys, 0, 0, /*return_lse=*/true});

  const at::Tensor importance = joint_importance(call.log_importance, type).unsqueeze(-1);
  const GatedScanResult scan = gated_scan(
      joint_query_features(q, call.maps), joint_key_features(k, call.maps) * importance, v,
      joint_log_decay(call.maps.log_tau, type).unsqueeze(0), call.segments, call.initial_state,
      {.normalizer = true, .delay = call.options.window_keys, .key_segments = call.key_segments});
  const at::Tensor out = under_one_denominator(near, lse, scan.out, call.log_mix);
  return {out.to(call.q.scalar_type()), scan.state};
}

JointAttentionResult joint_attention(const JointAttentionInputs& x,
                                     const JointAttentionParameters& parameters,
                                     const Segments& segments, const Segments& key_segments,
                                     const JointAttentionOptions& options,
                                     const std::optional<at::Tensor>& initial_state) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tigon::joint_attention", "")
                             .typed<decltype(joint_attention_op)>();
  const auto [out, state] = op.call(
      x.q, x.k, x.v, x.key_positions, x.inverse_frequencies, parameters.w_q, parameters.b_q,
      parameters.w_k, parameters.b_k, x.log_importance, x.log_mix, parameters.log_tau,
      segments.cu_seqlens, options.window_keys, initial_state, options.rope_scale,
      key_segments.cu_seqlens, segments.lengths, key_segments.lengths, parameters.second_order);
  return {out, state};
}

TORCH_LIBRARY_FRAGMENT(tigon, m) {
  m.def(
      "joint_attention(Tensor q, Tensor k, Tensor v, Tensor key_positions, "
      "Tensor inverse_frequencies, Tensor w_q, Tensor b_q, Tensor w_k, Tensor b_k, "
      "Tensor log_importance, Tensor log_mix, Tensor log_tau, Tensor cu_seqlens, "
      "int window_keys=64, Tensor? initial_state=None, float rope_scale=1, "
      "Tensor? key_cu_seqlens=None, int[]? lengths=None, int[]? key_lengths=None, "
      "bool second_order=False) "
      "-> (Tensor out, Tensor state)");
}

TORCH_LIBRARY_IMPL(tigon, CompositeImplicitAutograd, m) {
  m.impl("joint_attention", joint_attention_op);
}

}  // namespace tigon
