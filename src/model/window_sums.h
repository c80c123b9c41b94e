// The sums of a softmax window before they are divided, relative to the window's largest score.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "ops/segments.h"

namespace tigon {

/// Where the queries and keys of a batch stand in their sequences: segment s has seen past[s]
/// tokens, and its queries are the last of its keys (as in window_attention).
struct WindowPlaces {
  const Segments& queries;
  const Segments& keys;
  std::vector<int64_t> past;  // [S]

  /// Position of a segment's first key.
  int64_t first_key(int64_t segment) const {
    return past[segment] + queries.lengths[segment] - keys.lengths[segment];
  }
};

struct WindowSums {
  at::Tensor values;  // [N, H, D]: Σ e^{s_ij − c_i} v_j
  at::Tensor mass;    // [N, H]: Σ e^{s_ij − c_i}, at least 1
};

/// q [N, H, D], k and v [M, Hkv, D], all float32 or all float64, q and k rotated. s_ij = q_i·k_j/√D
/// over the window of query i, c_i its maximum. The window: the last w keys, the query's own
/// included; or, as a terrace, the block of w positions that i is in, up to i, and the block before
/// it. k is never repeated. Gradients: q, k, v, also through c_i.
WindowSums window_sums(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                       const WindowPlaces& places, int64_t window_keys, bool is_terrace);

}  // namespace tigon
