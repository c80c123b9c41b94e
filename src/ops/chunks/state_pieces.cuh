// The sum of products of two chunks' rows, [D, D], in the registers of a block.
#pragma once
#include "ops/chunks/chunk_rows.cuh"

namespace tigon::cuda {

/// Threads of a block that holds such a sum.
inline constexpr int kStateThreads = 256;

/// How the state [D, D] is shared out: pieces of 16 rows by D/2 columns, piece w, w + 8, … to warp
/// w.
template <int D>
struct StatePieces {
  static constexpr int kCount = D / 16 * 2;
  static constexpr int kEach = (kCount + kStateThreads / 32 - 1) / (kStateThreads / 32);
  static constexpr int kGroups = D / 32;  // of 16 columns

  FragmentC sums[kEach][kGroups];

  __device__ StatePieces() {
    for (auto& piece : sums) {
      for (FragmentC& c : piece) c.clear();
    }
  }
  __device__ static int piece(int i) { return threadIdx.x / 32 + i * (kStateThreads / 32); }
  __device__ static int first_row(int i) { return piece(i) / 2 * 16; }
  __device__ static int first_column(int i) { return piece(i) % 2 * (D / 2); }
  __device__ static bool exists(int i) { return piece(i) < kCount; }

  /// sums += leftᵀ · right over 16 tokens: left [16, D], right [16, D] in shared memory.
  __device__ void add(const bf16* left, const bf16* right, int lane) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (!exists(i)) continue;
      const FragmentA a = load_a_transposed<D>(left + first_row(i), lane);
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        multiply_add(sums[i][g], a, load_b_transposed<D>(right + first_column(i) + 16 * g, lane));
      }
    }
  }

  /// Row r of the sums times factor[r].
  __device__ void scale_rows(const float* factor, int lane) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (!exists(i)) continue;
      const float upper = factor[first_row(i) + lane / 4];
      const float lower = factor[first_row(i) + lane / 4 + 8];
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
#pragma unroll
        for (int j = 0; j < 8; ++j) sums[i][g].x[j] *= j / 2 % 2 == 0 ? upper : lower;
      }
    }
  }

  /// visit(row, column, two neighbouring sums) for all that this thread holds.
  template <typename Visit>
  __device__ void for_each_pair(int lane, Visit visit) const {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (!exists(i)) continue;
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          visit(first_row(i) + fragment_row(j, lane),
                first_column(i) + 16 * g + fragment_column(j, lane),
                float2{sums[i][g].x[2 * j], sums[i][g].x[2 * j + 1]});
        }
      }
    }
  }

  __device__ void store(float* target, int lane) const {
    for_each_pair(lane, [&](int row, int column, float2 pair) {
      *reinterpret_cast<float2*>(target + row * D + column) = pair;
    });
  }

  __device__ void store(bf16* target, int lane) const {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (!exists(i)) continue;
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        store_rows(target + first_row(i) * D + first_column(i) + 16 * g, D, to_a(sums[i][g]), kTile,
                   lane);
      }
    }
  }
};

}  // namespace tigon::cuda
