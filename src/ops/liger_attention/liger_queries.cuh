// 16 rows of queries against their window and their chunk: what forward and backward share.
#pragma once
#include "ops/liger_attention/liger_chunk.cuh"

namespace tigon::cuda {

/// Sub-chunks of keys that a sub-chunk of queries sees through its window, its own included.
inline constexpr int kWindowTiles = 5;

/// Shared memory of the kernels whose warps own query rows. Keys and values are those of the chunk
/// before (rows 0–63) and of the chunk itself (rows 64–127).
template <int D>
struct QueryShared {
  alignas(16) bf16 rotated_keys[2 * kChunkTokens * kRowStride<D>];
  alignas(16) bf16 values[2 * kChunkTokens * kRowStride<D>];
  alignas(16) bf16 to_end[kChunkTokens * kRowStride<D>];
  alignas(16) bf16 to_middle[kChunkTokens * kRowStride<D>];
  alignas(16) bf16 from_start[kChunkTokens * kRowStride<D>];
  alignas(16) bf16 from_middle[kChunkTokens * kRowStride<D>];
  alignas(16) bf16 state[D * kRowStride<D>];
  alignas(16) float decay[kSubChunks * D];
  RowSoftmax softmax[kChunkTokens];
};

/// Fills the shared memory for one chunk and KV head; all threads; ends with a barrier.
template <int D>
__device__ void load_chunk(QueryShared<D>& shared, const LigerParams& p, const Chunk& chunk,
                           int64_t chunk_index, int head) {
  const int begin = chunk.is_first ? kChunkTokens : 0, end = kChunkTokens + chunk.length;
  // Row 0's token; for a segment's first chunk it may lie before the batch and is never read.
  const int64_t first = static_cast<int64_t>(chunk.first_token) - kChunkTokens;
  load_rows<D>(shared.to_middle, head_of(p.k, chunk.first_token, head, D), p.k.token_stride,
               kChunkTokens, 0, chunk.length);
  load_rows<D>(shared.values, head_of(p.v, first, head, D), p.v.token_stride, 2 * kChunkTokens,
               begin, end);
  const bf16* states = static_cast<const bf16*>(p.states);
  load_rows<D>(shared.state, states + (chunk_index * p.kv_heads + head) * D * D, D, D, 0, D);
  load_rotated_rows<D>(shared.rotated_keys, head_of(p.k, first, head, D), p.k.token_stride,
                       p.rotations + first * D, 2 * kChunkTokens, begin, end);
  wait_for_copies();
  __syncthreads();
  make_chunk_keys<D>({shared.to_end, shared.to_middle, shared.from_start, shared.from_middle,
                      shared.decay, shared.softmax},
                     chunk.length, p.inverse_normalizer);
}

/// The window's probabilities of query sub-chunk `tile`, times `factor`: scores[t] meets key tile
/// tile + t of the 8 in shared memory. Masked ones are 0. Returns log2 Σ exp of the scaled scores
/// of both rows.
template <int D>
__device__ float2 window_softmax(FragmentC (&scores)[kWindowTiles],
                                 const FragmentA (&rotated_queries)[D / 16],
                                 const bf16* rotated_keys, int tile, bool is_first_chunk,
                                 const LigerParams& p, float factor, int lane) {
  const float scale_log2 = p.softmax_scale * kLog2E;
  float largest[2] = {-INFINITY, -INFINITY};
#pragma unroll
  for (int t = 0; t < kWindowTiles; ++t) {
    scores[t].clear();
    // Of the first key behind the first query; a query's own key lies in tile 4.
    const int distance = (kWindowTiles - 1 - t) * kTile;
    if (is_first_chunk && tile + t < kSubChunks) {
      fill(scores[t], -INFINITY);
    } else {
      const bf16* keys = rotated_keys + (tile + t) * kTile * kRowStride<D>;
#pragma unroll
      for (int g = 0; g < D / 16; ++g) {
        multiply_add(scores[t], rotated_queries[g], load_b<D>(keys + 16 * g, lane));
      }
      keep_window(scores[t], distance, p.window_keys, lane);
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) largest[i / 2 % 2] = fmaxf(largest[i / 2 % 2], scores[t].x[i]);
  }
  float sum[2] = {0, 0};
#pragma unroll
  for (int half = 0; half < 2; ++half) largest[half] = row_max(largest[half]) * scale_log2;
#pragma unroll
  for (int t = 0; t < kWindowTiles; ++t) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      scores[t].x[i] = exp2_fast(scores[t].x[i] * scale_log2 - largest[i / 2 % 2]);
      sum[i / 2 % 2] += scores[t].x[i];
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) sum[half] = row_sum(sum[half]);
  const float scales[2] = {factor / sum[0], factor / sum[1]};
#pragma unroll
  for (int t = 0; t < kWindowTiles; ++t) {
#pragma unroll
    for (int i = 0; i < 8; ++i) scores[t].x[i] *= scales[i / 2 % 2];
  }
  return {largest[0] + log2_fast(sum[0]), largest[1] + log2_fast(sum[1])};
}

}  // namespace tigon::cuda
