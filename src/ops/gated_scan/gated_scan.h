// Gated linear recurrence over ragged segments.
//   S_t = diag(a_t) S_{t−1} + k_tᵀ v_t,   o_t = q_t S_t,   a_t = exp(log_gate_t) ≤ 1
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>

#include "ops/segments.h"

namespace tigon {

struct GatedScanResult {
  at::Tensor out;    // [N, H, V], dtype of v
  at::Tensor state;  // [S, Hs, K, V] float32 (float64 for float64 inputs): the state after each
                     // segment's last token
};

/// q [N, H, K], k [N, Hk, K], v [N, Hv, V]; Hk and Hv divide H (grouped heads share without being
/// repeated). log_gate ≤ 0: [N, Hg, K] per channel or [N, Hg] (or [N, Hg, 1]) per head, Hg divides
/// H. initial_state [S, Hs, K, V] or none (zeros). Hs = state_heads divides H and
/// is a multiple of Hk, Hv and Hg, of which one divides the other; 0 means their maximum (query
/// heads of a group share one state). The recurrence runs in float32 (float64 for float64 inputs)
/// whatever the dtype. Gradients: q, k, v, log_gate, initial_state.
GatedScanResult gated_scan(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& log_gate, const Segments& segments,
                           const std::optional<at::Tensor>& initial_state = std::nullopt,
                           int64_t state_heads = 0);

/// The same, token by token: the definition, slow. The oracle of every other path.
GatedScanResult gated_scan_recurrent(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                     const at::Tensor& log_gate, const Segments& segments,
                                     const std::optional<at::Tensor>& initial_state = std::nullopt,
                                     int64_t state_heads = 0);

}  // namespace tigon
