// The backward pass of one chunk and state head: gradients of its queries, keys, values and gates.
//
// Computes  A_ij = q_i · k_j exp(b_i − b_j), dA_ij = do_i · v_j for j ≤ i, S the state before the
//           chunk, dS the gradient of the state after it, b_end the sum of all log-gates:
//           dv_j = Σ_i A_ij do_i + k_j exp(b_end − b_j) dS
//           dq_i = Σ_j dA_ij exp(b_i − b_j) k_j + exp(b_i) S do_i
//           dk_j = Σ_i dA_ij exp(b_i − b_j) q_i + exp(b_end − b_j) dS v_j
//           d log a_t = Σ_{i ≥ t} (q_i ⊙ dq_i − k_i ⊙ (dk_i without dS)) + Σ_{j < t} k_j ⊙ (dk_j
//           of dS) + exp(b_end) S ⊙ dS summed over V; 0 where a log-gate is −10 or less
// Shapes    as forward; S and dS [C, Hs, K, V] bf16, rows by position. Here values, do and columns
//           of states lie in the channels' order
// Grid      (C, Hs) blocks of 256 threads
// Tiles     16 keys by 16 queries. For each head first a warp owns 16 keys and dv or dk, then 16
//           queries and half of dq's columns; dA passes from one to the other through shared memory
// Memory    K = V = 64: 112 KB shared, two blocks a multiprocessor; 128: 220 KB, one. Reads q and
//           do once, writes dq once; the next head's rows are copied meanwhile
// Saves     recomputes all but the chunk states
// Order     heads, then tiles, each in order; the parts of a pair (i, j) in q ⊙ dq and k ⊙ dk are
//           products of the same rounded numbers, so that they cancel where no gate lies between;
//           deterministic
#pragma once
#include <algorithm>

#include "ops/gated_scan/gated_scan_chunk.cuh"

namespace tigon::cuda {

inline constexpr int kBwdThreads = 256;
inline constexpr int kBwdWarps = kBwdThreads / 32;

template <int K, int V>
struct BwdShared {
  static constexpr int kKeyElements = kChunkTokens * row_stride(K);
  static constexpr int kValueElements = kChunkTokens * row_stride(V);
  static constexpr int kScoreStride = row_stride(kChunkTokens);
  // The second one is for the next head, unless it would not fit.
  static constexpr int kGradientTiles = K + V > 256 ? 1 : 2;

  alignas(16) bf16 to_end[kKeyElements];
  alignas(16) bf16 to_middle[kKeyElements];
  // After the heads a factor of dk; with the next then a float tile of gate gradients.
  alignas(16) bf16 from_start[kKeyElements];
  alignas(16) bf16 from_middle[kKeyElements];
  alignas(16) bf16 values[kValueElements];
  alignas(16) bf16 state[K * row_stride(V)];
  alignas(16) bf16 queries[kKeyElements];  // of the next head, in the channels' order
  // With the next two: dS after the heads; of the first two then a float tile of gate gradients.
  alignas(16) bf16 queries_from_start[kKeyElements];   // q ⊙ exp(c)
  alignas(16) bf16 queries_from_middle[kKeyElements];  // q ⊙ exp(c − m)
  alignas(16) bf16 out_gradients[kGradientTiles][kValueElements];
  // dA: rows are keys, columns queries. After the heads what follows below.
  alignas(16) bf16 score_gradients[kChunkTokens * kScoreStride];
  alignas(16) float decay[kSubChunks * K];

  __device__ bf16* state_gradient() { return queries_from_start; }
  /// [64, row_stride(K)] by position: what every gate up to a row's gets from it.
  __device__ float* up_to_row() { return reinterpret_cast<float*>(queries_from_start); }
  /// The same: what every gate after a row's gets from it.
  __device__ float* after_row() { return reinterpret_cast<float*>(from_start); }
  /// [K]: exp(b_end) S ⊙ dS summed over V.
  __device__ float* state_dots() { return reinterpret_cast<float*>(score_gradients); }
  /// [4, K]: up_to_row and after_row summed over a sub-chunk.
  __device__ float* up_to_sums() { return state_dots() + K; }
  __device__ float* after_sums() { return up_to_sums() + kSubChunks * K; }
  /// [4, K]: bit i says that the log-gate of token i of the sub-chunk was bounded.
  __device__ uint16_t* bounded() {
    return reinterpret_cast<uint16_t*>(after_sums() + kSubChunks * K);
  }

  static_assert(2 * kKeyElements + kValueElements >= K * row_stride(V), "dS fits");
};

/// 16 keys (rows) by a sub-chunk's queries: A of the own and of later sub-chunks.
template <int K, int V>
__device__ void transposed_scores(FragmentC (&scores)[kSubChunks], const BwdShared<K, V>& shared,
                                  int tile, int lane) {
  constexpr int kStride = row_stride(K);
  const int own_rows = tile * kTile * kStride;
  for (FragmentC& c : scores) c.clear();
#pragma unroll
  for (int g = 0; g < K / 16; ++g) {
    multiply_add(scores[0], load_a<K>(shared.to_middle + own_rows + 16 * g, lane),
                 load_b<K>(shared.queries_from_middle + own_rows + 16 * g, lane));
    FragmentC keys = widened(load_a<K>(shared.to_end + own_rows + 16 * g, lane));
#pragma unroll
    for (int offset = 1; offset < kSubChunks; ++offset) {
      const int query_tile = tile + offset;
      if (query_tile >= kSubChunks) continue;
      const bf16* queries = shared.queries_from_start + query_tile * kTile * kStride;
      multiply_add(scores[offset], to_a(keys), load_b<K>(queries + 16 * g, lane));
      scale_columns(keys, shared.decay + query_tile * K + 16 * g, lane);
    }
  }
  keep_upper(scores[0], lane);
}

/// dv += what one head's queries give 16 keys.
template <int K, int V>
__device__ void add_value_gradient(FragmentC* gradient, const BwdShared<K, V>& shared,
                                   const bf16* out_gradients, int tile, int lane) {
  FragmentC scores[kSubChunks];
  transposed_scores(scores, shared, tile, lane);
#pragma unroll
  for (int offset = 0; offset < kSubChunks; ++offset) {
    if (tile + offset >= kSubChunks) continue;
    const FragmentA a = to_a(scores[offset]);
    const bf16* rows = out_gradients + (tile + offset) * kTile * row_stride(V);
#pragma unroll
    for (int n = 0; n < V / 16; ++n) {
      multiply_add(gradient[n], a, load_b_transposed<V>(rows + 16 * n, lane));
    }
  }
}

/// One head's part of dk = exp(m − c) ⊙ own + exp(T − c) ⊙ later of 16 keys; leaves dA in shared
/// memory.
template <int K, int V>
__device__ void add_key_gradient(FragmentC* own, FragmentC* later, BwdShared<K, V>& shared,
                                 const bf16* out_gradients, int tile, int lane) {
  constexpr int kStride = row_stride(K), kScores = BwdShared<K, V>::kScoreStride;
  const int own_rows = tile * kTile * kStride;
  FragmentA gradients[kSubChunks];
  // Two sub-chunks of queries at a time: the sums of four would not stay in registers.
#pragma unroll
  for (int first = 0; first < kSubChunks; first += 2) {
    if (tile + first >= kSubChunks) continue;
    FragmentC sums[2];
    sums[0].clear();
    sums[1].clear();
#pragma unroll
    for (int g = 0; g < V / 16; ++g) {
      const FragmentA values =
          load_a<V>(shared.values + tile * kTile * row_stride(V) + 16 * g, lane);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (tile + first + i >= kSubChunks) continue;
        const bf16* rows = out_gradients + (tile + first + i) * kTile * row_stride(V);
        multiply_add(sums[i], values, load_b<V>(rows + 16 * g, lane));
      }
    }
    if (first == 0) keep_upper(sums[0], lane);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int offset = first + i;
      if (tile + offset >= kSubChunks) continue;
      gradients[offset] = to_a(sums[i]);
      bf16* target = shared.score_gradients + tile * kTile * kScores + (tile + offset) * kTile;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        *reinterpret_cast<uint32_t*>(target + fragment_row(j, lane) * kScores +
                                     fragment_column(j, lane)) = gradients[offset].x[j];
      }
    }
  }
#pragma unroll
  for (int n = 0; n < K / 16; ++n) {
    multiply_add(own[n], gradients[0],
                 load_b_transposed<K>(shared.queries_from_middle + own_rows + 16 * n, lane));
    FragmentC sum;
    sum.clear();
#pragma unroll
    for (int offset = kSubChunks - 1; offset > 0; --offset) {
      const int query_tile = tile + offset;
      if (query_tile >= kSubChunks) continue;
      // What came from tiles behind this one crosses it.
      scale_columns(sum, shared.decay + query_tile * K + 16 * n, lane);
      const bf16* queries = shared.queries_from_start + query_tile * kTile * kStride;
      multiply_add(sum, gradients[offset], load_b_transposed<K>(queries + 16 * n, lane));
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) later[n].x[i] += sum.x[i];
  }
}

/// y += a ⊙ 16 rows and columns of a tile by position.
template <int K>
__device__ void add_product(FragmentC& y, const FragmentC& a, const bf16* tile, int lane) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair =
        unpack(load_pair(tile + fragment_row(i, lane) * row_stride(K) + fragment_column(i, lane)));
    y.x[2 * i] += a.x[2 * i] * pair.x;
    y.x[2 * i + 1] += a.x[2 * i + 1] * pair.y;
  }
}

/// low and high ⊙= a thread's part of 16 rows of 32 channels of a tile in the channels' order.
template <int K>
__device__ void scale_by_channels(FragmentC& low, FragmentC& high, const bf16* tile, int lane) {
  const bf16* row = tile + lane / 4 * row_stride(K) + lane % 4 * 8;
  scale_pair(low, high, load_piece(row), load_piece(row + 8 * row_stride(K)));
}

/// Writes dq of 16 queries and 32 channels of one head, and adds q ⊙ dq to y.
template <int K, int V>
__device__ void make_query_gradient(FragmentC* y, bf16* target, int64_t stride,
                                    const BwdShared<K, V>& shared, const bf16* out_gradients,
                                    int tile, int group, int valid, int lane) {
  constexpr int kStride = row_stride(K), kScores = BwdShared<K, V>::kScoreStride;
  const int own_rows = tile * kTile * kStride + 32 * group;
  FragmentC earlier[2], own[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    earlier[h].clear();
    own[h].clear();
  }
#pragma unroll
  for (int g = 0; g < V / 16; ++g) {
    const FragmentA rows = load_a<V>(out_gradients + tile * kTile * row_stride(V) + 16 * g, lane);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const bf16* state = shared.state + (32 * group + 16 * h) * row_stride(V) + 16 * g;
      multiply_add(earlier[h], rows, load_b<V>(state, lane));
    }
  }
#pragma unroll
  for (int distance = kSubChunks - 1; distance >= 0; --distance) {
    if (distance > tile) continue;
    const int key_tile = tile - distance;
    const FragmentA gradients = load_a_transposed(
        shared.score_gradients + key_tile * kTile * kScores + tile * kTile, kScores, lane);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int at = key_tile * kTile * kStride + 32 * group + 16 * h;
      if (distance == 0) {
        multiply_add(own[h], gradients, load_b_transposed<K>(shared.to_middle + at, lane));
      } else {
        scale_columns(earlier[h], shared.decay + key_tile * K + 32 * group + 16 * h, lane);
        multiply_add(earlier[h], gradients, load_b_transposed<K>(shared.to_end + at, lane));
      }
    }
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int at = own_rows + 16 * h;
    add_product<K>(y[h], earlier[h], shared.queries_from_start + at, lane);
    add_product<K>(y[h], own[h], shared.queries_from_middle + at, lane);
  }
  scale_by_channels<K>(earlier[0], earlier[1], shared.from_start + own_rows, lane);
  scale_by_channels<K>(own[0], own[1], shared.from_middle + own_rows, lane);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
#pragma unroll
    for (int i = 0; i < 8; ++i) earlier[h].x[i] += own[h].x[i];
  }
  store_32_channels(target + 32 * group, stride, earlier[0], earlier[1], valid, lane);
}

/// Launches the kernel for states of K rows and as many columns as the parameters say.
template <int K>
cudaError_t launch_gated_scan_bwd_rows(const GatedScanParams& params, cudaStream_t stream);

}  // namespace tigon::cuda
