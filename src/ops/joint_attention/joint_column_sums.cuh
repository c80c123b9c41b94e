// Weighted sums of the rows of tiles, by column.
#pragma once
#include "ops/chunks/state_pieces.cuh"

namespace tigon::cuda {

/// Σ_row factor(row) · tile[row][d] in a block of kStateThreads, which all take part: add() for
/// each tile [64, D], then total() once. Factors are rounded to bf16: the sums are products with a
/// matrix whose rows are all alike.
template <int D>
struct ColumnSums {
  static constexpr int kGroups = D / 16;                       // of columns, a warp each
  static constexpr int kParts = kStateThreads / 32 / kGroups;  // of rows
  static constexpr int kTiles = kChunkTokens / kTile / kParts;

  FragmentC sums;

  __device__ ColumnSums() { sums.clear(); }

  template <typename Factor>
  __device__ void add(const bf16* tile, Factor factor) {
    const int lane = threadIdx.x % 32, part = threadIdx.x / 32 / kGroups;
    const int column = threadIdx.x / 32 % kGroups * 16;
    if (part >= kParts) return;
#pragma unroll
    for (int j = part * kTiles; j < (part + 1) * kTiles; ++j) {
      const int row = j * kTile + lane % 4 * 2;
      FragmentA a;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float first = factor(row + 8 * half), second = factor(row + 8 * half + 1);
        const uint32_t rounded = pack(first, second);
        a.x[2 * half] = rounded;
        a.x[2 * half + 1] = pack(first - unpack(rounded).x, second - unpack(rounded).y);
      }
      multiply_add(sums, a, load_b_transposed<D>(tile + j * kTile * kRowStride<D> + column, lane));
    }
  }

  /// Of column threadIdx.x, in the first D threads. `shared` holds kParts · D numbers.
  __device__ float total(float* shared) const {
    const int lane = threadIdx.x % 32, part = threadIdx.x / 32 / kGroups;
    const int column = threadIdx.x / 32 % kGroups * 16 + lane * 2;
    if (part < kParts && lane < 4) {  // the first row and the ninth
      float* target = shared + part * D + column;
      target[0] = sums.x[0] + sums.x[2];
      target[1] = sums.x[1] + sums.x[3];
      target[8] = sums.x[4] + sums.x[6];
      target[9] = sums.x[5] + sums.x[7];
    }
    __syncthreads();
    float result = 0;
    if (threadIdx.x < D) {
      for (int i = 0; i < kParts; ++i) result += shared[i * D + threadIdx.x];
    }
    return result;
  }
};

}  // namespace tigon::cuda
