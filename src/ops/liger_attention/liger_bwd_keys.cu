// Computes  dv and dk of one chunk and KV head, from its queries and those of the chunk after it:
//           dv_j = Σ_i ((1−mix) P_ij + mix A_ij) do_i + exp(b_end − b_j) φ(k_j) dS,
//           window: RoPE⁻¹(Σ_i dS_ij RoPE(q_i)), recurrence: y_j = φ(k_j) ⊙ dφ(k_j), dk += y − φ Σ
//           y, gates: d log a_t = Σ_{i ≥ t} (y of the queries − y of the keys) + d log decay of the
//           chunk, dk += d log a · σ(−k) / normalizer (0 where the gate was bounded)
// Shapes    k, v, dk, dv [N, Hkv, D] bf16; query rows and their sums as bwd_queries wrote them
// Grid      (C, Hkv) blocks of two or three warps for each sub-chunk of keys, by what they sum
// Tiles     16 keys by 16 queries, scores transposed (keys are rows) and never stored
// Memory    D = 64: 113 KB shared, two blocks a multiprocessor; D = 128: 215 KB, one.
//           Reads q and do of every head of the group twice (from L2)
// Saves     recomputes scores from the log-sum-exp of the queries' kernel
// Order     heads, then query tiles, each in order; deterministic
#include <type_traits>

#include "ops/liger_attention/liger_chunk.cuh"
#include "ops/liger_attention/liger_launch.cuh"

namespace tigon::cuda {
namespace {

/// Warps a sub-chunk of keys: one for dv, one for dk; with wide heads, whose sums fill a warp's
/// registers, one for the window's part of dk and one for the recurrence's.
template <int D>
constexpr int kRoles = D == 64 ? 2 : 3;
template <int D>
constexpr int kThreads = 32 * kSubChunks* kRoles<D>;
constexpr int kQueryTiles = 5;  // that see a sub-chunk of keys through the window, its own included

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
  LigerChunk chunk;
  int next_length;  // queries in the chunk after this one, 0 at a segment's end
  int kv_head, group, lane;
  int tile;       // of 16 keys
  int valid;      // of them, ≤ 0 if none
  int64_t token;  // first key of the tile
};

/// Decay of the sub-chunks strictly between keys' and queries', for 16 columns.
template <int D>
__device__ void scale_by_decay_between(FragmentC& c, const float* decay, int key_tile,
                                       int query_tile, int column, int lane) {
  for (int j = key_tile + 1; j < query_tile; ++j) scale_columns(c, decay + j * D + column, lane);
}

/// Left operand of 16 rows and 16 columns as C elements.
__device__ inline FragmentC widened(const FragmentA& a) {
  FragmentC c;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = unpack(a.x[i]);
    c.x[2 * i] = pair.x;
    c.x[2 * i + 1] = pair.y;
  }
  return c;
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

/// The chunk's keys, values, gates and the gradient of the state after it.
template <int D>
__device__ void load_keys(KeyShared<D>& shared, const KeyBlock& block, const LigerParams& p) {
  const LigerChunk& chunk = block.chunk;
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

/// Puts the window's part of dk into shared memory.
template <int D>
__device__ void put_window_gradient(KeyShared<D>& shared, FragmentC (&rotated)[D / 16],
                                    const KeyBlock& block, const LigerParams& p) {
  const int lane = block.lane;
#pragma unroll
  for (int n = 0; n < D / 32; ++n) {
    rotate_back<D>(rotated[n], rotated[n + D / 32], n, p.rotations + block.token * D, block.valid,
                   lane);
  }
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = (block.tile * kTile + fragment_row(i, lane)) * kRowStride<D> + 16 * n +
                     fragment_column(i, lane);
      *reinterpret_cast<float2*>(shared.key_gradients() + at) = {rotated[n].x[2 * i],
                                                                 rotated[n].x[2 * i + 1]};
    }
  }
}

/// After the heads: k itself for the last steps, and Σ y of the queries over the heads of the
/// group.
template <int D>
__device__ void load_sums(KeyShared<D>& shared, const KeyBlock& block, const LigerParams& p) {
  constexpr int kPieces = D / 8;
  const int64_t first = block.chunk.first_token;
  load_rows<D>(shared.keys(), head_of(p.k, first, block.kv_head, D), p.k.token_stride, kChunkTokens,
               0, block.chunk.length);
  const int64_t y_stride = static_cast<int64_t>(p.heads) * D;
  const LigerTokens query_y{p.query_gate_gradients, y_stride};
  for (int item = threadIdx.x; item < kChunkTokens * kPieces; item += blockDim.x) {
    const int row = item / kPieces, column = item % kPieces * 8;
    float2 sums[4] = {};
    const bf16* y = head_of(query_y, first + row, block.kv_head * block.group, D) + column;
    if (row < block.chunk.length) {
#pragma unroll 4
      for (int g = 0; g < block.group; ++g) {
        const uint4 piece = *reinterpret_cast<const uint4*>(y + g * D);
        const uint32_t pairs[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float2 pair = unpack(pairs[i]);
          sums[i].x += pair.x;
          sums[i].y += pair.y;
        }
      }
    }
    float4* target =
        reinterpret_cast<float4*>(shared.gate_gradients() + row * kRowStride<D> + column);
    target[0] = {sums[0].x, sums[0].y, sums[1].x, sums[1].y};
    target[1] = {sums[2].x, sums[2].y, sums[3].x, sums[3].y};
  }
  wait_for_copies();
}

/// Adds the recurrence's part of dk, and takes y of the keys from Σ y of the queries.
template <int D>
__device__ void put_recurrence_gradient(KeyShared<D>& shared, const FragmentC (&y)[D / 16],
                                        const KeyBlock& block) {
  const int lane = block.lane;
  float sum[2] = {0, 0};
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
#pragma unroll
    for (int i = 0; i < 8; ++i) sum[i / 2 % 2] += y[n].x[i];
  }
  sum[0] = row_sum(sum[0]);
  sum[1] = row_sum(sum[1]);
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = block.tile * kTile + fragment_row(i, lane);
      const int at = row * kRowStride<D> + 16 * n + fragment_column(i, lane);
      const float2 key = unpack(load_pair(shared.keys() + at));
      const RowSoftmax& softmax = shared.softmax[row];
      float2& gate = *reinterpret_cast<float2*>(shared.gate_gradients() + at);
      float2& gradient = *reinterpret_cast<float2*>(shared.key_gradients() + at);
      gate.x -= y[n].x[2 * i];
      gate.y -= y[n].x[2 * i + 1];
      gradient.x += y[n].x[2 * i] - softmax.value(key.x) * sum[i % 2];
      gradient.y += y[n].x[2 * i + 1] - softmax.value(key.y) * sum[i % 2];
    }
  }
}

/// Adds the gates' part and writes dk. One thread a channel and sub-chunk.
template <int D>
__device__ void store_key_gradients(KeyShared<D>& shared, const KeyBlock& block,
                                    const LigerParams& p) {
  const int64_t state = blockIdx.x * static_cast<int64_t>(p.kv_heads) + block.kv_head;
  for (int item = threadIdx.x; item < kSubChunks * D; item += blockDim.x) {
    const int first = item / D * kTile, channel = item % D;
    float sum = p.decay_gradients[state * D + channel];
    for (int row = kChunkTokens - 1; row >= first + kTile; --row) {
      sum += shared.gate_gradients()[row * kRowStride<D> + channel];
    }
    for (int row = first + kTile - 1; row >= first; --row) {
      const int at = row * kRowStride<D> + channel;
      sum += shared.gate_gradients()[at];
      if (row >= block.chunk.length) continue;
      const int64_t token = static_cast<int64_t>(block.chunk.first_token) + row;
      const float k = __bfloat162float(shared.keys()[at]);
      const bool is_bounded = log2_gate(k, p.inverse_normalizer) <= kLowestLogGate;
      const float slope = is_bounded ? 0.0f : p.inverse_normalizer / (1.0f + exp2_fast(k * kLog2E));
      head_of(p.k_gradient, token, block.kv_head, D)[channel] =
          __float2bfloat16_rn(shared.key_gradients()[at] + sum * slope);
    }
  }
}

template <int D>
__global__ void __launch_bounds__(kThreads<D>, D == 64 ? 2 : 1)
    bwd_keys_kernel(const LigerParams p) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<KeyShared<D>*>(memory);
  KeyBlock block;
  block.chunk = p.chunks[blockIdx.x];
  const bool has_next =
      static_cast<int>(blockIdx.x) + 1 < p.chunk_count && !p.chunks[blockIdx.x + 1].is_first;
  block.next_length = has_next ? p.chunks[blockIdx.x + 1].length : 0;
  block.kv_head = blockIdx.y;
  block.group = p.heads / p.kv_heads;
  block.lane = threadIdx.x % 32;
  block.tile = threadIdx.x / 32 % kSubChunks;
  block.valid = block.chunk.length - block.tile * kTile;
  block.token = static_cast<int64_t>(block.chunk.first_token) + block.tile * kTile;
  const int role = threadIdx.x / 32 / kSubChunks;
  const bool makes_values = role == 0, makes_window = role == 1;
  const bool makes_recurrence = role == kRoles<D> - 1;

  prefetch_queries<D>(block, block.kv_head * block.group, p);
  load_keys<D>(shared, block, p);
  // dv or the gradient of the rotated keys; y, in a warp of its own or beside the latter.
  FragmentC all_sums[kRoles<D> == 3 ? 1 : 2][D / 16];
  for (auto& group : all_sums) {
    for (FragmentC& c : group) c.clear();
  }
  auto& sums = all_sums[0];
  auto& y = all_sums[kRoles<D> == 3 ? 0 : 1];
  if (makes_values) value_gradient_from_state<D>(sums, shared, block);
  if (makes_recurrence) key_gradient_from_state<D>(y, shared, block);
  for (int g = 0; g < block.group; ++g) {
    __syncthreads();
    load_queries<D>(shared, block, block.kv_head * block.group + g, p);
    if (g + 1 < block.group) prefetch_queries<D>(block, block.kv_head * block.group + g + 1, p);
    if (makes_values) add_value_gradient<D>(sums, shared, block, p);
    if (makes_window) add_window_gradient<D>(sums, shared, block, p);
    if (makes_recurrence) add_recurrence_gradient<D>(y, shared, block, p);
  }
  __syncthreads();
  if (makes_values) {
    bf16* target = head_of(p.v_gradient, block.token, block.kv_head, D);
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      store_rows(target + 16 * n, p.v_gradient.token_stride, sums[n], block.valid, block.lane);
    }
  }
  if (makes_window) put_window_gradient<D>(shared, sums, block, p);
  load_sums<D>(shared, block, p);
  __syncthreads();
  if (makes_recurrence) put_recurrence_gradient<D>(shared, y, block);
  __syncthreads();
  store_key_gradients<D>(shared, block, p);
}

}  // namespace

cudaError_t launch_liger_bwd_keys(const LigerParams& params, cudaStream_t stream) {
  return with_head_dim(params.head_dim, [&](auto head_dim) {
    constexpr int D = decltype(head_dim)::value;
    const dim3 grid(params.chunk_count, params.kv_heads);
    return launch_with_shared_memory(bwd_keys_kernel<D>, grid, kThreads<D>, sizeof(KeyShared<D>),
                                     params, stream);
  });
}

}  // namespace tigon::cuda
