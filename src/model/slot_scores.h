// How well a query matches the slots of a gated slot memory.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>

#include "ops/segments.h"

namespace tigon {

struct SlotScoresResult {
  at::Tensor scores;  // [N, H, M]
  at::Tensor state;   // K̃ after each segment, [S, Hkv, M, D]
};

/// K̃_t = diag(a_t) K̃_{t−1} + s_tᵀ k_t,   scores_t = K̃_t q_t. q [N, H, D], k [N, Hkv, D], s and
/// log_gate = log a [N, Hkv, M], initial_state [S, Hkv, M, D] or none (zeros), all float32 or all
/// float64. Gradients: all inputs.
///
/// The gates act on the side that is read here and contracted in gated_scan, so this is gated_scan
/// transposed: scores are the gradient, of the queries of gated_scan(·, s, k, log a), under the
/// upstream gradient q. Both directions are a scan and its backward.
SlotScoresResult slot_scores(const at::Tensor& q, const at::Tensor& k, const at::Tensor& s,
                             const at::Tensor& log_gate, const Segments& segments,
                             const std::optional<at::Tensor>& initial_state = std::nullopt);

}  // namespace tigon
