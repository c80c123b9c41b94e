// A chunk's keys and the queries that see them: shared memory of the kernel whose warps own keys.
#pragma once
#include "ops/liger_attention/liger_chunk.cuh"

namespace tigon::cuda {

/// Queries are those of the chunk (rows 0–63) and of the chunk after it (rows 64–127).
template <int D>
struct KeyShared {
  static constexpr int kTileElements = kChunkTokens * kRowStride<D>;

  alignas(16) bf16 rotated_queries[2 * kTileElements];
  alignas(16) bf16 out_gradients[2 * kTileElements];
  alignas(16) bf16 queries_from_start[kTileElements];   // φ(q) ⊙ exp(c)
  alignas(16) bf16 queries_from_middle[kTileElements];  // φ(q) ⊙ exp(c − m)
  alignas(16) bf16 rotated_keys[kTileElements];
  alignas(16) bf16 values[kTileElements];
  alignas(16) bf16 to_end[kTileElements];
  alignas(16) bf16 to_middle[kTileElements];
  alignas(16) bf16 from_start[kTileElements];
  alignas(16) bf16 from_middle[kTileElements];
  alignas(16) float decay[kSubChunks * D];
  RowSoftmax softmax[kChunkTokens];  // of the keys
  alignas(16) float log2_sum_exp[2 * kChunkTokens];
  alignas(16) float row_dots[2 * kChunkTokens];

  /// Before the heads: the gradient of the state after the chunk, [D, D].
  __device__ bf16* state_gradient() { return rotated_queries; }
  /// After the heads, [64, kRowStride] float32 each.
  __device__ float* gate_gradients() { return reinterpret_cast<float*>(rotated_queries); }
  __device__ bf16* keys() { return queries_from_start; }
  __device__ float* key_gradients() { return reinterpret_cast<float*>(out_gradients); }
};

/// What a block works on.
struct KeyBlock {
  Chunk chunk;
  int next_length;  // queries in the chunk after this one, 0 at a segment's end
  int kv_head, group, lane;
  int tile;       // of 16 keys
  int valid;      // of them, ≤ 0 if none
  int64_t token;  // first key of the tile
};

/// The chunk's keys, values, gates and the gradient of the state after it.
template <int D>
__device__ void load_keys(KeyShared<D>& shared, const KeyBlock& block, const LigerParams& p) {
  const Chunk& chunk = block.chunk;
  const bf16* keys = head_of(p.k, chunk.first_token, block.kv_head, D);
  load_rows<D>(shared.to_middle, keys, p.k.token_stride, kChunkTokens, 0, chunk.length);
  load_rows<D>(shared.values, head_of(p.v, chunk.first_token, block.kv_head, D), p.v.token_stride,
               kChunkTokens, 0, chunk.length);
  const int64_t state = blockIdx.x * static_cast<int64_t>(p.kv_heads) + block.kv_head;
  load_rows<D>(shared.state_gradient(), static_cast<const bf16*>(p.state_gradients) + state * D * D,
               D, D, 0, D);
  load_rotated_rows<D>(shared.rotated_keys, keys, p.k.token_stride,
                       p.rotations + static_cast<int64_t>(chunk.first_token) * D, kChunkTokens, 0,
                       chunk.length);
  wait_for_copies();
  __syncthreads();
  make_chunk_keys<D>({shared.to_end, shared.to_middle, shared.from_start, shared.from_middle,
                      shared.decay, shared.softmax},
                     chunk.length, p.inverse_normalizer);
}

/// Has the rows of a head's queries and upstream gradients brought to the L2 cache.
template <int D>
__device__ void prefetch_queries(const KeyBlock& block, int head, const LigerParams& p) {
  const int rows = block.chunk.length + block.next_length;
  constexpr int kLines = D * static_cast<int>(sizeof(bf16)) / 128;  // of 128 bytes
  for (int item = threadIdx.x; item < rows * kLines; item += blockDim.x) {
    const int64_t token = static_cast<int64_t>(block.chunk.first_token) + item / kLines;
    const int column = item % kLines * 64;
    prefetch_line(head_of(p.q, token, head, D) + column);
    prefetch_line(head_of(p.out_gradient, token, head, D) + column);
  }
}

/// One head's queries of this chunk and the next, their upstream gradients and sums.
template <int D>
__device__ void load_queries(KeyShared<D>& shared, const KeyBlock& block, int head,
                             const LigerParams& p) {
  const int64_t token = block.chunk.first_token;
  const int rows = 2 * kChunkTokens;
  // A chunk with a successor is full, so that its rows run on into the next chunk's.
  const int end = block.chunk.length + block.next_length;
  const bf16* queries = head_of(p.q, token, head, D);
  // φ(q) is made where the raw queries are put first.
  load_rows<D>(shared.queries_from_start, queries, p.q.token_stride, kChunkTokens, 0,
               block.chunk.length);
  load_rows<D>(shared.out_gradients, head_of(p.out_gradient, token, head, D),
               p.out_gradient.token_stride, rows, 0, end);
  load_rotated_rows<D>(shared.rotated_queries, queries, p.q.token_stride, p.rotations + token * D,
                       rows, 0, end);
  for (int row = threadIdx.x; row < rows; row += blockDim.x) {
    const int64_t at = (token + row) * p.heads + head;
    shared.log2_sum_exp[row] = row < end ? p.log2_sum_exp[at] : INFINITY;  // P = 0
    shared.row_dots[row] = row < end ? p.row_dots[at] : 0.0f;
  }
  wait_for_copies();
  __syncthreads();
  if (threadIdx.x < 4 * kChunkTokens) {
    const int at = threadIdx.x / 4 * kRowStride<D>, quarter = threadIdx.x % 4;
    const RowQuarter<D> part(shared.queries_from_start + at, quarter);
    const RowSoftmax softmax = part.softmax();
    part.store_mapped(shared.queries_from_start + at, shared.from_start + at, softmax, quarter);
    part.store_mapped(shared.queries_from_middle + at, shared.from_middle + at, softmax, quarter);
  }
  __syncthreads();
}

}  // namespace tigon::cuda
