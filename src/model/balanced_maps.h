// Feature maps to fewer numbers than a head has, that keep most of its teacher's q·k.
#pragma once
#include <ATen/core/Tensor.h>

#include "model/rotary.h"

namespace tigon {

struct BalancedMaps {
  at::Tensor w_q;  // [H, D, R]
  at::Tensor w_k;  // [Hkv, D, R]
};

/// Of the teacher's q [N, H, D] and k [N, Hkv, D] before RoPE, R ≤ D. For each KV head, with the
/// moments A = mean(q qᵀ) over the tokens of its query heads and B = mean((k − k̄)(k − k̄)ᵀ), and F
/// the mean of RoPE's turn over the distances window_keys … 8·window_keys − 1, so that at those
/// q_iᵀ F k_j is RoPE(q_i)·RoPE(k_j) in the mean:
///   A^½ F B^½ = U diag(e) Vᵀ,   w_q = c A^−½ U e^½,   w_k = c B^−½ V e^½   (the first R columns)
/// (q w_q)·((k − k̄) w_k) is then c² qᵀ F (k − k̄) but for what the R coordinates leave out, the
/// least that any can; both sides have the same spread in each. c² = 1/√(D max(1, Σ_{r ≤ R}
/// e_r²/D)) scales it as softmax attention does, to a mean square of 1 at most. Found in float64.
BalancedMaps balanced_maps(const at::Tensor& q, const at::Tensor& k, const Rotary& rotary,
                           int64_t window_keys, int64_t numbers);

}  // namespace tigon
