#include "ops/joint_attention/joint_attention.h"

#include <ATen/Functions.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <tuple>

#include "ops/checks.h"
#include "ops/gated_scan/gated_scan.h"
#include "ops/joint_attention/joint_maps.h"
#include "ops/rope/rope.h"
#include "ops/window_attention/window_attention.h"

namespace tigon {
namespace {

constexpr const char* kOp = "joint_attention";
constexpr double kLongestLogImportance = 6;
// Of φq·S^1. Below it N/Z has lost its digits, and its gradient could overflow in float32.
constexpr double kLeastMass = 1e-30;

void check_input(const char* name, const at::Tensor& x, const at::Tensor& q,
                 std::initializer_list<int64_t> shape) {
  check_floating(kOp, name, x);
  check_device(kOp, name, x, q);
  check_shape(kOp, name, x, shape);
  TORCH_CHECK((x.scalar_type() == at::kDouble) == (q.scalar_type() == at::kDouble), "[", kOp, "] ",
              name, ": expected float64 exactly if q (", q.scalar_type(), ") is, found ",
              x.scalar_type());
}

// Only what the parts cannot know: rope, window_attention and gated_scan check their own arguments.
void check_joint_attention(const JointAttentionInputs& x, const JointAttentionParameters& p,
                           const JointAttentionOptions& options) {
  check_queries_keys_values(kOp, x.q, x.k, x.v);
  const int64_t N = x.q.size(0), H = x.q.size(1), D = x.q.size(2);
  const int64_t M = x.k.size(0), Hkv = x.k.size(1);
  check_shape(kOp, "key_positions", x.key_positions, {M});
  check_input("w_q", p.w_q, x.q, {H, D, D});
  check_input("b_q", p.b_q, x.q, {H, D});
  check_input("w_k", p.w_k, x.q, {Hkv, D, D});
  check_input("b_k", p.b_k, x.q, {Hkv, D});
  check_input("log_importance", x.log_importance, x.q, {M, Hkv});
  check_input("log_mix", x.log_mix, x.q, {N, H});
  check_input("log_tau", p.log_tau, x.q, {Hkv, 2 * D});
  TORCH_CHECK(options.window_keys > 0, "[", kOp, "] window_keys: expected 1 or more, found ",
              options.window_keys);
}

// The rows whose key has a query.
at::Tensor select(const at::Tensor& x, const at::Tensor& rows) {
  return rows.defined() ? x.index_select(0, rows) : x;
}

std::tuple<at::Tensor, at::Tensor> joint_attention_op(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& key_positions,
    const at::Tensor& inverse_frequencies, const at::Tensor& w_q, const at::Tensor& b_q,
    const at::Tensor& w_k, const at::Tensor& b_k, const at::Tensor& log_importance,
    const at::Tensor& log_mix, const at::Tensor& log_tau, const at::Tensor& cu_seqlens,
    int64_t window_keys, const std::optional<at::Tensor>& initial_state, double rope_scale,
    const std::optional<at::Tensor>& key_cu_seqlens, at::OptionalIntArrayRef lengths,
    at::OptionalIntArrayRef key_lengths) {
  check_joint_attention({q, k, v, key_positions, inverse_frequencies, log_importance, log_mix},
                        {w_q, b_q, w_k, b_k, log_tau}, {window_keys, rope_scale});
  const Segments segments = Segments::from_op_arguments(cu_seqlens, lengths, q.size(0));
  const Segments key_segments =
      Segments::keys_from_op_arguments(key_cu_seqlens, key_lengths, k.size(0), segments);
  const at::ScalarType type = accumulation_type(q.scalar_type());
  const at::Tensor wide_q = q.to(type), wide_k = k.to(type), wide_v = v.to(type);

  const at::Tensor query_positions = select(key_positions, query_rows(segments, key_segments));
  const auto [near, lse] =
      window_attention(rope(wide_q, query_positions, inverse_frequencies, rope_scale),
                       rope(wide_k, key_positions, inverse_frequencies, rope_scale), wide_v,
                       segments, key_segments, {window_keys, 0, 0, /*return_lse=*/true});

  const at::Tensor importance =
      log_importance.to(type).clamp(-kLongestLogImportance, kLongestLogImportance).exp();
  const GatedScanResult scan =
      gated_scan(joint_feature_map(wide_q, w_q, b_q),
                 joint_feature_map(wide_k, w_k, b_k) * importance.unsqueeze(-1), wide_v,
                 joint_log_decay(log_tau, type).unsqueeze(0), segments, initial_state,
                 {.normalizer = true, .delay = window_keys, .key_segments = key_segments});
  const int64_t D = q.size(2);
  const at::Tensor mass = scan.out.select(-1, D);  // [N, H]
  const at::Tensor has_far = mass > kLeastMass;
  const at::Tensor safe_mass = at::where(has_far, mass, 1.0);
  const at::Tensor far = scan.out.narrow(-1, 0, D) / safe_mass.unsqueeze(-1);
  const at::Tensor share =
      at::where(has_far, (log_mix.to(type) + safe_mass.log() - lse).sigmoid(), 0.0);
  return {at::lerp(near, far, share.unsqueeze(-1)).to(q.scalar_type()), scan.state};
}

}  // namespace

JointAttentionResult joint_attention(const JointAttentionInputs& x,
                                     const JointAttentionParameters& parameters,
                                     const Segments& segments, const Segments& key_segments,
                                     const JointAttentionOptions& options,
                                     const std::optional<at::Tensor>& initial_state) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tigon::joint_attention", "")
                             .typed<decltype(joint_attention_op)>();
  const auto [out, state] =
      op.call(x.q, x.k, x.v, x.key_positions, x.inverse_frequencies, parameters.w_q, parameters.b_q,
              parameters.w_k, parameters.b_k, x.log_importance, x.log_mix, parameters.log_tau,
              segments.cu_seqlens, options.window_keys, initial_state, options.rope_scale,
              key_segments.cu_seqlens, segments.lengths, key_segments.lengths);
  return {out, state};
}

TORCH_LIBRARY_FRAGMENT(tigon, m) {
  m.def(
      "joint_attention(Tensor q, Tensor k, Tensor v, Tensor key_positions, "
      "Tensor inverse_frequencies, Tensor w_q, Tensor b_q, Tensor w_k, Tensor b_k, "
      "Tensor log_importance, Tensor log_mix, Tensor log_tau, Tensor cu_seqlens, "
      "int window_keys=64, Tensor? initial_state=None, float rope_scale=1, "
      "Tensor? key_cu_seqlens=None, int[]? lengths=None, int[]? key_lengths=None) "
      "-> (Tensor out, Tensor state)");
}

TORCH_LIBRARY_IMPL(tigon, CompositeImplicitAutograd, m) {
  m.impl("joint_attention", joint_attention_op);
}

}  // namespace tigon
