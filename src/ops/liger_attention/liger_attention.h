// Liger's hybrid mixer: a rotated softmax window and a gated linear recurrence, averaged.
//   φ = softmax over the head dimension; log a_t = logsigmoid(k_t)/gate_normalizer per channel
//   o = (1−mix)·window(RoPE(q), RoPE(k), v) + mix·gated_scan(φ(q), φ(k), v, log a)
// The scan has no scale and no denominator.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>

#include "ops/gated_scan/gated_scan.h"
#include "ops/segments.h"

namespace tigon {

struct LigerAttentionOptions {
  int64_t window_keys = 64;
  double gate_normalizer = 16;
  double mix = 0.5;       // the recurrence's share
  double rope_scale = 1;  // multiplies cos and sin
};

struct LigerAttentionResult {
  at::Tensor out;    // [N, H, D], dtype of q
  at::Tensor state;  // [S, Hkv, D, D] float32 (float64 for float64 inputs)
};

/// q [N, H, D], k and v [M, Hkv, D], all of one dtype and before RoPE; key_positions [M] int64;
/// inverse_frequencies [D/2] float32. As in window_attention, a segment's queries are the last of
/// its keys; the recurrence starts from initial_state [S, Hkv, D, D] (which already holds the
/// prefix keys) and takes in only the keys that have a query. Feature maps, gates and recurrence
/// run in float32 (float64 for float64). Gradients: q, k, v, initial_state.
LigerAttentionResult liger_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                     const at::Tensor& key_positions,
                                     const at::Tensor& inverse_frequencies,
                                     const Segments& segments, const Segments& key_segments,
                                     const LigerAttentionOptions& options,
                                     const std::optional<at::Tensor>& initial_state = std::nullopt);

/// The recurrence alone: gated_scan over φ(q), φ(k) and v with Liger's gate. q [N, H, D], k and v
/// [N, Hkv, D] before RoPE.
GatedScanResult liger_recurrence(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                 const Segments& segments, double gate_normalizer,
                                 const std::optional<at::Tensor>& initial_state = std::nullopt);

}  // namespace tigon
