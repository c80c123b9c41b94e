// A checked call of joint_attention, for its implementations.
#pragma once
#include "ops/joint_attention/joint_attention.h"

namespace tigon {

struct JointAttentionCall {
  at::Tensor q, k, v;
  at::Tensor key_positions, inverse_frequencies;
  JointAttentionParameters maps;
  at::Tensor log_importance, log_mix;
  Segments segments, key_segments;
  JointAttentionOptions options;
  std::optional<at::Tensor> initial_state;
};

/// The op's arguments as its schema has them.
JointAttentionCall check_joint_attention(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& key_positions,
    const at::Tensor& inverse_frequencies, const at::Tensor& w_q, const at::Tensor& b_q,
    const at::Tensor& w_k, const at::Tensor& b_k, const at::Tensor& log_importance,
    const at::Tensor& log_mix, const at::Tensor& log_tau, const at::Tensor& cu_seqlens,
    int64_t window_keys, const std::optional<at::Tensor>& initial_state, double rope_scale,
    const std::optional<at::Tensor>& key_cu_seqlens, at::OptionalIntArrayRef lengths,
    at::OptionalIntArrayRef key_lengths, bool second_order);

/// The definition, out of rope, window_attention and gated_scan, in float32 (float64 for float64
/// inputs).
JointAttentionResult joint_attention_plain(const JointAttentionCall& call);

/// [N] int64: where the queries stand in their sequences.
at::Tensor query_positions(const JointAttentionCall& call);

}  // namespace tigon
