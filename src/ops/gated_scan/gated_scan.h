// Gated linear recurrence over ragged segments.
//   S_t = diag(a_t) S_{t−1} + k_tᵀ v_t,   o_t = q_t S_{t−delay},   a_t = exp(log_gate_t) ≤ 1
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>

#include "ops/segments.h"

namespace tigon {

struct GatedScanOptions {
  int64_t state_heads = 0;  // Hs; 0 means the most heads among k, v and log_gate
  bool normalizer = false;  // v gets a last column of ones, and with it out and state
  int64_t delay = 0;        // tokens by which a query lags behind the newest key it sees
  // Where keys precede a segment's first query (a cached prefix); without it each key has its
  // query.
  std::optional<Segments> key_segments = std::nullopt;
};

struct GatedScanResult {
  // [N, H, V], dtype of v. With a normalizer [N, H, V+1] in float32 (float64 for float64 inputs):
  // the last column is q · Σ decayed k, which a softmax-like feature map divides by.
  at::Tensor out;
  at::Tensor state;  // [S, Hs, K, V or V+1] float32 (float64 for float64 inputs): the state that
                     // each segment's last query sees
};

/// q [N, H, K], k [M, Hk, K], v [M, Hv, V]; Hk and Hv divide H (grouped heads share without being
/// repeated). log_gate ≤ 0: [M, Hg, K] per channel, [M, Hg] (or [M, Hg, 1]) per head, or the same
/// for all tokens: [1, Hg, K] or [1, Hg, 1]. Hg divides H. initial_state [S, Hs, K, V or V+1] or
/// none (zeros). Hs divides H and is a multiple of Hk, Hv and Hg, of which one divides the other;
/// by default it is their maximum (query heads of a group share one state). The recurrence runs in
/// float32 (float64 for float64 inputs) whatever the dtype. Gradients: q, k, v, log_gate,
/// initial_state.
///
/// Which keys a state holds: segment s has as many queries as `segments` says and at least as many
/// keys, and its queries belong to its last keys. The step of a query takes in the one key that
/// lies `delay` places before the query's own, with its gate, and leaves the state as it is where
/// the segment has no such key yet. So initial_state holds every key further back than `delay`
/// places from the first query, and the returned state lacks the segment's last `delay` keys: the
/// next call gets them again, as its prefix.
GatedScanResult gated_scan(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& log_gate, const Segments& segments,
                           const std::optional<at::Tensor>& initial_state = std::nullopt,
                           const GatedScanOptions& options = {});

/// The same, token by token: the definition, slow. The oracle of every other path.
GatedScanResult gated_scan_recurrent(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                     const at::Tensor& log_gate, const Segments& segments,
                                     const std::optional<at::Tensor>& initial_state = std::nullopt,
                                     const GatedScanOptions& options = {});

}  // namespace tigon
