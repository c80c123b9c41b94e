// Weighted sums of the rows of tiles, by column.
#pragma once
#include "ops/chunks/state_pieces.cuh"

namespace tigon::cuda {

/// Σ_row tile[row][d] · factor(row), by kParts threads a column in a block of kStateThreads, which
/// all take part: add() for each tile of 64 rows, then total() once.
template <int D>
struct ColumnSums {
  static constexpr int kParts = kStateThreads / D;

  int column = threadIdx.x % D, part = threadIdx.x / D;
  float sum = 0;

  template <typename Factor>
  __device__ void add(const bf16* tile, Factor factor) {
    if (part >= kParts) return;
    constexpr int kRows = kChunkTokens / kParts;
#pragma unroll 8
    for (int row = part * kRows; row < (part + 1) * kRows; ++row) {
      sum += __bfloat162float(tile[row * kRowStride<D> + column]) * factor(row);
    }
  }

  /// Valid in the threads of part 0. `shared` holds kStateThreads numbers.
  __device__ float total(float* shared) const {
    shared[threadIdx.x] = sum;
    __syncthreads();
    float result = 0;
    for (int i = 0; i < kParts; ++i) result += shared[i * D + column];
    return result;
  }
};

}  // namespace tigon::cuda
