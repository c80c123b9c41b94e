// Small steps that several kernels of joint_attention take.
#pragma once
#include "ops/chunks/chunk_rows.cuh"
#include "ops/joint_attention/joint_attention_params.h"

namespace tigon::cuda {

/// Tiles of 16 tokens in a chunk.
inline constexpr int kChunkTiles = kChunkTokens / kTile;

/// log_importance of a key, clipped.
__device__ inline float clipped_log_importance(const JointParams& p, int64_t token, int head) {
  const float x = p.log_importance[token * p.kv_heads + head];
  return fminf(fmaxf(x, -p.longest_log_importance), p.longest_log_importance);
}

/// One of the fragments that load_query_rows makes; `source` is the first row's first column.
__device__ inline FragmentA load_query_fragment(const bf16* source, int64_t stride, int valid,
                                                int lane) {
  FragmentA rows[1];
  load_query_rows<16>(rows, source, stride, valid, lane);
  return rows[0];
}

/// Elements for which keep(row, column) is false become `otherwise`.
template <typename Keep>
__device__ void keep_where(FragmentC& c, float otherwise, int lane, Keep keep) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (!keep(fragment_row(i / 2, lane), fragment_column(i / 2, lane) + i % 2)) c.x[i] = otherwise;
  }
}

/// Which keys of a chunk a query sees by softmax, by their places in their chunks.
enum class Window {
  kOldest,  // behind the query's place
  kMiddle,  // all
  kOwn,     // up to the query's place
};

/// target[column] = Σ_row c[row, column] · factor[row] over 16 rows; `factor` holds those of this
/// thread's two rows, target 16 numbers.
__device__ inline void store_column_sums(float* target, const FragmentC& c,
                                         const float (&factor)[2], int lane) {
  float sums[4];  // columns 2·(lane%4) + {0, 1} and + {8, 9}
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int at = i / 2 * 4 + i % 2;
    sums[i] = c.x[at] * factor[0] + c.x[at + 2] * factor[1];
  }
  // Each step halves the columns a thread sums, until one is left.
  const bool upper = (lane & 16) != 0, odd = (lane & 8) != 0;
  float pair[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float sent = upper ? sums[i] : sums[2 + i];
    pair[i] = (upper ? sums[2 + i] : sums[i]) + __shfl_xor_sync(0xffffffffu, sent, 16);
  }
  float sum = (odd ? pair[1] : pair[0]) + __shfl_xor_sync(0xffffffffu, odd ? pair[0] : pair[1], 8);
  sum += __shfl_xor_sync(0xffffffffu, sum, 4);
  if ((lane & 4) == 0) target[lane % 4 * 2 + (upper ? 8 : 0) + (odd ? 1 : 0)] = sum;
}

}  // namespace tigon::cuda
