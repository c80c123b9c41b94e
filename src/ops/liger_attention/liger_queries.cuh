// 16 rows of queries against their window and their chunk: what forward and backward share.
#pragma once
#include "ops/liger_attention/liger_chunk.cuh"

namespace tigon::cuda {

/// Sub-chunks of keys that a sub-chunk of queries sees through its window, its own included.
inline constexpr int kWindowTiles = 5;

/// Of a block: four for each of two query heads at work at once. Where a group has one head, half
/// of them only load.
inline constexpr int kQueryWarps = 2 * kSubChunks;
inline constexpr int kQueryThreads = 32 * kQueryWarps;
inline constexpr int kHeadsAtOnce = kQueryWarps / kSubChunks;

/// Floats from one token's rotations to the next in shared memory, so that 16-byte accesses of two
/// neighbouring tokens meet different banks.
template <int D>
inline constexpr int kRotationStride = D + 16;

/// Shared memory of the kernels whose warps own query rows. Rotated keys and values are those of
/// the chunk before (rows 0–63, zero if there is none) and of the chunk itself (rows 64–127).
template <int D>
struct QueryShared {
  alignas(16) bf16 rotated_keys[2 * kChunkTokens * kRowStride<D>];
  alignas(16) bf16 values[2 * kChunkTokens * kRowStride<D>];
  alignas(16) bf16 to_middle[kChunkTokens * kRowStride<D>];    // φ(k) ⊙ exp(m − c)
  alignas(16) bf16 from_middle[kChunkTokens * kRowStride<D>];  // exp(c − m)
  alignas(16) bf16 state[D * kRowStride<D>];
  alignas(16) float links[kLinks * D];
  alignas(16) float rotations[kChunkTokens * kRotationStride<D>];
  alignas(16) bf16 warp_rows[kQueryWarps][kTile * kRowStride<D>];  // of queries, on their way
};

/// Up to `kMostRows` rows of floats; wait as for load_rows().
template <int kMostRows, int kRowSize>
__device__ void load_float_rows(float* tile, int stride, const float* source, int rows) {
  constexpr int kPieces = kRowSize / 4;
#pragma unroll
  for (int first = 0; first < kMostRows * kPieces; first += kQueryThreads) {
    const int item = first + static_cast<int>(threadIdx.x);
    const int row = item / kPieces, column = item % kPieces * 4;
    if (row >= rows) break;
    copy_16_bytes(tile + row * stride + column, source + row * kRowSize + column, true);
  }
}

/// Starts the copies of all but the queries for one chunk and KV head; all threads. Wait with
/// wait_for_copies() and a barrier.
template <int D>
__device__ void load_chunk(QueryShared<D>& shared, const LigerParams& p, const Chunk& chunk,
                           int64_t chunk_index, int head) {
  const int begin = chunk.is_first ? kChunkTokens : 0, end = kChunkTokens + chunk.length;
  const int64_t index = chunk_index * p.kv_heads + head, tile = index * kChunkTokens * D;
  const bf16* rotated_keys = static_cast<const bf16*>(p.rotated_keys) + tile;
  // Rows of the chunk before; for a segment's first chunk they are never read, and may lie before
  // the batch.
  const bf16* keys_before = rotated_keys - (chunk.is_first ? 1 : p.kv_heads) * kChunkTokens * D;
  const int64_t first = static_cast<int64_t>(chunk.first_token) - kChunkTokens;
  const auto load_tile = [&](bf16* target, const bf16* source, int first_row) {
    load_rows<D, kChunkTokens, kQueryThreads>(target, source, D, first_row, kChunkTokens);
  };
  load_tile(shared.rotated_keys, keys_before, begin);
  load_tile(shared.rotated_keys + kChunkTokens * kRowStride<D>, rotated_keys, 0);
  load_rows<D, 2 * kChunkTokens, kQueryThreads>(shared.values, head_of(p.v, first, head, D),
                                                p.v.token_stride, begin, end);
  load_tile(shared.to_middle, static_cast<const bf16*>(p.keys_to_middle) + tile, 0);
  load_tile(shared.from_middle, static_cast<const bf16*>(p.from_middle) + tile, 0);
  load_rows<D, D, kQueryThreads>(shared.state, static_cast<const bf16*>(p.states) + index * D * D,
                                 D, 0, D);
  load_float_rows<kLinks, D>(shared.links, D, p.links + index * kLinks * D, kLinks);
  load_float_rows<kChunkTokens, D>(shared.rotations, kRotationStride<D>,
                                   p.rotations + static_cast<int64_t>(chunk.first_token) * D,
                                   chunk.length);
}

/// One head's 16 rows of queries.
struct QueryTile {
  int head, tile;  // the tile's place in the chunk
  int valid;       // rows, ≤ 0 if none
  int64_t token;   // of the first row

  /// Number g of a group's heads, for this warp. Tiles further on meet more keys, so that a warp
  /// takes one from the other end with every other head.
  __device__ QueryTile(const LigerParams& p, const Chunk& chunk, int kv_head, int g) {
    const int warp = threadIdx.x / 32 % kSubChunks, step = g / kHeadsAtOnce;
    head = kv_head * (p.heads / p.kv_heads) + g;
    tile = step % 2 == 0 ? warp : kSubChunks - 1 - warp;
    valid = chunk.length - tile * kTile;
    token = static_cast<int64_t>(chunk.first_token) + tile * kTile;
  }
};

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
    const bf16* keys = rotated_keys + (tile + t) * kTile * kRowStride<D>;
#pragma unroll
    for (int g = 0; g < D / 16; ++g) {
      multiply_add(scores[t], rotated_queries[g], load_b<D>(keys + 16 * g, lane));
    }
    // Of the first key behind the first query; a query's own key lies in tile 4.
    keep_window(scores[t], (kWindowTiles - 1 - t) * kTile, p.window_keys, lane);
    if (is_first_chunk && tile + t < kSubChunks) fill(scores[t], -INFINITY);
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
