// Linear attention that sees whole blocks of keys, once a whole block lies between.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>

#include "model/window_sums.h"

namespace tigon {

struct BlockAttentionResult {
  at::Tensor out;    // [N, H, V+1]: fq_i · S, the last column the sum of weights
  at::Tensor state;  // [S, X, F, V+1]
};

/// A query in block b, of w positions counted from the start of its sequence, reads
/// S = Σ fk_jᵀ [v_j, 1] over the keys of all blocks before b − 1 (those a terrace window leaves
/// out). fq [N, H, F], fk [M, X, F], v [M, Hkv, V], all float32 or all float64; X is H or Hkv.
/// initial_state [S, X, F, V+1] (zeros if none) holds the keys that a segment's first query reads;
/// the returned state those that the next query after the segment's last will read. A segment's
/// keys reach back at least to the start of the block before its first query. Gradients: all.
BlockAttentionResult block_attention(const at::Tensor& fq, const at::Tensor& fk,
                                     const at::Tensor& v, const WindowPlaces& places, int64_t w,
                                     const std::optional<at::Tensor>& initial_state);

}  // namespace tigon
