// A checked call of liger_attention, for its implementations.
#pragma once
#include <tuple>

#include "ops/liger_attention/liger_attention.h"

namespace tigon {

struct LigerAttentionCall {
  at::Tensor q, k, v;
  at::Tensor key_positions, inverse_frequencies;
  Segments segments, key_segments;
  LigerAttentionOptions options;
  std::optional<at::Tensor> initial_state;
};

/// The op's arguments as its schema has them.
LigerAttentionCall check_liger_attention(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& key_positions,
    const at::Tensor& inverse_frequencies, const at::Tensor& cu_seqlens, int64_t window_keys,
    double gate_normalizer, double mix, const std::optional<at::Tensor>& initial_state,
    double rope_scale, const std::optional<at::Tensor>& key_cu_seqlens,
    at::OptionalIntArrayRef lengths, at::OptionalIntArrayRef key_lengths);

/// The definition, out of rope, window_attention and gated_scan.
LigerAttentionResult liger_attention_plain(const LigerAttentionCall& call);

}  // namespace tigon
