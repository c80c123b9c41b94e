// What 16 keys get from one head's queries: scores with keys as rows, and the gradients they carry.
#pragma once
#include "ops/liger_attention/liger_keys.cuh"

namespace tigon::cuda {

/// Sub-chunks of queries that see a sub-chunk of keys through the window, its own included.
inline constexpr int kQueryTiles = 5;

/// Decay of the sub-chunks strictly between keys' and queries', for 16 columns.
template <int D>
__device__ void scale_by_decay_between(FragmentC& c, const float* decay, int key_tile,
                                       int query_tile, int column, int lane) {
  for (int j = key_tile + 1; j < query_tile; ++j) scale_columns(c, decay + j * D + column, lane);
}

/// P of 16 keys (rows) by 16 queries, from the queries' log-sum-exp. `offset` is the distance in
/// sub-chunks from the keys to the queries.
template <int D>
__device__ FragmentC transposed_probabilities(const KeyShared<D>& shared, const KeyBlock& block,
                                              int offset, const LigerParams& p) {
  const int query_row = (block.tile + offset) * kTile, lane = block.lane;
  const bf16* keys = shared.rotated_keys + block.tile * kTile * kRowStride<D>;
  const bf16* queries = shared.rotated_queries + query_row * kRowStride<D>;
  FragmentC scores;
  scores.clear();
#pragma unroll
  for (int g = 0; g < D / 16; ++g) {
    multiply_add(scores, load_a<D>(keys + 16 * g, lane), load_b<D>(queries + 16 * g, lane));
  }
  keep_window_transposed(scores, offset * kTile, p.window_keys, lane);
  const float scale_log2 = p.softmax_scale * kLog2E;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float2 log2_sum = *reinterpret_cast<const float2*>(shared.log2_sum_exp + query_row +
                                                             fragment_column(2 * half, lane));
    float* x = scores.x + 4 * half;
    x[0] = exp2_fast(x[0] * scale_log2 - log2_sum.x);
    x[1] = exp2_fast(x[1] * scale_log2 - log2_sum.y);
    x[2] = exp2_fast(x[2] * scale_log2 - log2_sum.x);
    x[3] = exp2_fast(x[3] * scale_log2 - log2_sum.y);
  }
  return scores;
}

/// exp(b_end − b_j) φ(k_j) as 16 × 16 elements from column 16·g.
template <int D>
__device__ FragmentC keys_to_chunk_end(const KeyShared<D>& shared, const KeyBlock& block, int g) {
  const bf16* keys = shared.to_end + block.tile * kTile * kRowStride<D> + 16 * g;
  FragmentC c = widened(load_a<D>(keys, block.lane));
  scale_by_decay_between<D>(c, shared.decay, block.tile, kSubChunks, 16 * g, block.lane);
  return c;
}

template <int D>
__device__ void value_gradient_from_state(FragmentC (&gradient)[D / 16], KeyShared<D>& shared,
                                          const KeyBlock& block) {
  const bf16* state_gradient = shared.state_gradient();
#pragma unroll
  for (int g = 0; g < D / 16; ++g) {
    const FragmentA keys = to_a(keys_to_chunk_end<D>(shared, block, g));
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      const bf16* tile = state_gradient + 16 * g * kRowStride<D> + 16 * n;
      multiply_add(gradient[n], keys, load_b_transposed<D>(tile, block.lane));
    }
  }
}

/// Scores of the recurrence between 16 keys (rows) and the chunk's queries, by distance in
/// sub-chunks.
template <int D>
__device__ void transposed_recurrence_scores(FragmentC (&scores)[kSubChunks],
                                             const KeyShared<D>& shared, const KeyBlock& block) {
  const int lane = block.lane, keys_row = block.tile * kTile * kRowStride<D>;
  for (FragmentC& c : scores) c.clear();
#pragma unroll
  for (int g = 0; g < D / 16; ++g) {
    const bf16* own_queries = shared.queries_from_middle + keys_row + 16 * g;
    multiply_add(scores[0], load_a<D>(shared.to_middle + keys_row + 16 * g, lane),
                 load_b<D>(own_queries, lane));
    FragmentC keys = widened(load_a<D>(shared.to_end + keys_row + 16 * g, lane));
#pragma unroll
    for (int offset = 1; offset < kSubChunks; ++offset) {
      const int query_tile = block.tile + offset;
      if (query_tile >= kSubChunks) break;
      const bf16* queries = shared.queries_from_start + query_tile * kTile * kRowStride<D>;
      multiply_add(scores[offset], to_a(keys), load_b<D>(queries + 16 * g, lane));
      scale_columns(keys, shared.decay + query_tile * D + 16 * g, lane);
    }
  }
  keep_upper(scores[0], lane);
}

/// dv of one head's queries.
template <int D>
__device__ void add_value_gradient(FragmentC (&gradient)[D / 16], const KeyShared<D>& shared,
                                   const KeyBlock& block, const LigerParams& p) {
  const auto add = [&](const FragmentC& weights, int query_tile) {
    const FragmentA a = to_a(weights);
    const bf16* out_gradients = shared.out_gradients + query_tile * kTile * kRowStride<D>;
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      multiply_add(gradient[n], a, load_b_transposed<D>(out_gradients + 16 * n, block.lane));
    }
  };
  FragmentC recurrence[kSubChunks];
  transposed_recurrence_scores<D>(recurrence, shared, block);
#pragma unroll
  for (int offset = 0; offset < kSubChunks; ++offset) {
    if (block.tile + offset >= kSubChunks) break;
    scale(recurrence[offset], p.mix);
    add(recurrence[offset], block.tile + offset);
  }
#pragma unroll 1  // the code of five does not fit the instruction cache
  for (int offset = 0; offset < kQueryTiles; ++offset) {
    FragmentC window = transposed_probabilities<D>(shared, block, offset, p);
    scale(window, 1 - p.mix);
    add(window, block.tile + offset);
  }
}

/// y from the state: φ(k) exp(b_end − b) ⊙ (dS v).
template <int D>
__device__ void key_gradient_from_state(FragmentC (&y)[D / 16], KeyShared<D>& shared,
                                        const KeyBlock& block) {
  const bf16* values = shared.values + block.tile * kTile * kRowStride<D>;
  const bf16* state_gradient = shared.state_gradient();
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
#pragma unroll
    for (int g = 0; g < D / 16; ++g) {
      const bf16* tile = state_gradient + 16 * n * kRowStride<D> + 16 * g;
      multiply_add(y[n], load_a<D>(values + 16 * g, block.lane), load_b<D>(tile, block.lane));
    }
    const FragmentC keys = keys_to_chunk_end<D>(shared, block, n);
#pragma unroll
    for (int i = 0; i < 8; ++i) y[n].x[i] *= keys.x[i];
  }
}

/// dP of 16 keys (rows) by 16 queries.
template <int D>
__device__ FragmentC transposed_score_gradients(const KeyShared<D>& shared, const KeyBlock& block,
                                                int offset) {
  const bf16* values = shared.values + block.tile * kTile * kRowStride<D>;
  const bf16* out_gradients = shared.out_gradients + (block.tile + offset) * kTile * kRowStride<D>;
  FragmentC gradients;
  gradients.clear();
#pragma unroll
  for (int g = 0; g < D / 16; ++g) {
    multiply_add(gradients, load_a<D>(values + 16 * g, block.lane),
                 load_b<D>(out_gradients + 16 * g, block.lane));
  }
  return gradients;
}

/// Gradient of the rotated keys, of one head's queries.
template <int D>
__device__ void add_window_gradient(FragmentC (&gradient)[D / 16], const KeyShared<D>& shared,
                                    const KeyBlock& block, const LigerParams& p) {
  const int lane = block.lane;
  const float factor = p.softmax_scale * (1 - p.mix);
#pragma unroll 1  // the code of five does not fit the instruction cache
  for (int offset = 0; offset < kQueryTiles; ++offset) {
    const int query_row = (block.tile + offset) * kTile;
    FragmentC window = transposed_probabilities<D>(shared, block, offset, p);
    const FragmentC gradients = transposed_score_gradients<D>(shared, block, offset);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float2 dot = *reinterpret_cast<const float2*>(shared.row_dots + query_row +
                                                          fragment_column(2 * half, lane));
#pragma unroll
      for (int i = 4 * half; i < 4 * half + 4; ++i) {
        window.x[i] *= factor * (gradients.x[i] - (i % 2 == 0 ? dot.x : dot.y));
      }
    }
    const FragmentA a = to_a(window);
    const bf16* queries = shared.rotated_queries + query_row * kRowStride<D>;
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      multiply_add(gradient[n], a, load_b_transposed<D>(queries + 16 * n, lane));
    }
  }
}

/// y of one head's queries.
template <int D>
__device__ void add_recurrence_gradient(FragmentC (&y)[D / 16], const KeyShared<D>& shared,
                                        const KeyBlock& block, const LigerParams& p) {
  const int lane = block.lane, keys_row = block.tile * kTile * kRowStride<D>;
  FragmentA gradients[kSubChunks];  // mix · dP
#pragma unroll
  for (int offset = 0; offset < kSubChunks; ++offset) {
    if (block.tile + offset >= kSubChunks) break;
    FragmentC c = transposed_score_gradients<D>(shared, block, offset);
    scale(c, p.mix);
    if (offset == 0) keep_upper(c, lane);
    gradients[offset] = to_a(c);
  }
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
    FragmentC own, later;
    own.clear();
    later.clear();
    const bf16* own_queries = shared.queries_from_middle + keys_row + 16 * n;
    multiply_add(own, gradients[0], load_b_transposed<D>(own_queries, lane));
#pragma unroll
    for (int offset = kSubChunks - 1; offset > 0; --offset) {
      const int query_tile = block.tile + offset;
      if (query_tile >= kSubChunks) continue;
      // What came from tiles behind this one crosses it.
      scale_columns(later, shared.decay + query_tile * D + 16 * n, lane);
      const bf16* queries = shared.queries_from_start + query_tile * kTile * kRowStride<D>;
      multiply_add(later, gradients[offset], load_b_transposed<D>(queries + 16 * n, lane));
    }
    scale_elements<D>(own, shared.to_middle + keys_row + 16 * n, lane);
    scale_elements<D>(later, shared.to_end + keys_row + 16 * n, lane);
#pragma unroll
    for (int i = 0; i < 8; ++i) y[n].x[i] += own.x[i] + later.x[i];
  }
}

}  // namespace tigon::cuda
