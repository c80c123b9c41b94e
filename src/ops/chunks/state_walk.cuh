// A state that walks along the chunks of a segment, in the registers of a block: each block holds a
// part of it, D/2 rows by D/2 columns.
#pragma once
#include <type_traits>

#include "ops/chunks/chunk_rows.cuh"

namespace tigon::cuda {

/// The part is shared out to the warps as 16 rows by kColumns columns each.
template <int D>
struct StateWalk {
  static constexpr int kSide = D / 2;
  static constexpr int kWarpsARow = D == 64 ? 2 : 1;
  static constexpr int kThreads = 32 * (kSide / 16) * kWarpsARow;
  static constexpr int kColumns = kSide / kWarpsARow;
  static constexpr int kGroups = kColumns / 16;
  /// Chunks that are there or on their way: as many as leave room for four blocks a multiprocessor.
  static constexpr int kStages = D == 64 ? 5 : 3;

  /// A chunk's keys, whose channels are the part's rows, and values, whose channels are its
  /// columns.
  struct Stage {
    alignas(16) bf16 keys[kChunkTokens * kRowStride<kSide>];
    alignas(16) bf16 values[kChunkTokens * kRowStride<kSide>];
  };

  FragmentC sums[kGroups];
  int lane, row, column;  // the warp's first of the part

  __device__ StateWalk()
      : lane(threadIdx.x % 32),
        row(static_cast<int>(threadIdx.x) / 32 / kWarpsARow * 16),
        column(static_cast<int>(threadIdx.x) / 32 % kWarpsARow * kColumns) {
    for (FragmentC& c : sums) c.clear();
  }

  /// Starts the copy of the part's columns of 64 tokens; rows from `length` on become zero.
  __device__ static void load(bf16* tile, const bf16* source, int64_t stride, int length) {
    load_rows<kSide, kChunkTokens, kThreads>(tile, source, stride, 0, length);
  }

  /// Visits `count` chunks in order: load(n, stage) ahead of time, then step(n, stage, parity) with
  /// the parity of n as a constant.
  template <typename Load, typename Step>
  __device__ static void walk(char* memory, int count, Load load, Step step) {
    auto* stages = reinterpret_cast<Stage*>(memory);
    const auto start = [&](int n) {
      if (n < count) load(n, stages[n % kStages]);
      end_copy_group();
    };
    const auto visit = [&](int n, auto parity) {
      wait_for_copy_groups<kStages - 2>();
      __syncthreads();
      start(n + kStages - 1);
      step(n, stages[n % kStages], parity);
    };
    for (int n = 0; n + 1 < kStages; ++n) start(n);
    for (int n = 0; n < count; n += 2) {
      visit(n, std::integral_constant<int, 0>());
      if (n + 1 < count) visit(n + 1, std::integral_constant<int, 1>());
    }
  }

  /// The warp's rows of keysᵀ for sub-chunk j of 16 tokens.
  __device__ FragmentA keys(const Stage& stage, int j) const {
    return load_a_transposed<kSide>(stage.keys + j * kTile * kRowStride<kSide> + row, lane);
  }

  /// sums += keys · values over sub-chunk j.
  __device__ void add(const FragmentA& keys, const Stage& stage, int j) {
    const bf16* values = stage.values + j * kTile * kRowStride<kSide> + column;
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      multiply_add(sums[g], keys, load_b_transposed<kSide>(values + 16 * g, lane));
    }
  }

  /// The thread's two rows times a factor each.
  __device__ void scale_rows(float upper, float lower) {
#pragma unroll
    for (FragmentC& c : sums) {
#pragma unroll
      for (int i = 0; i < 8; ++i) c.x[i] *= i / 2 % 2 == 0 ? upper : lower;
    }
  }

  /// visit(row, column, two neighbouring sums), within the part.
  template <typename Visit>
  __device__ void for_each_pair(Visit visit) {
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        visit(row + fragment_row(i, lane), column + 16 * g + fragment_column(i, lane),
              sums[g].x + 2 * i);
      }
    }
  }

  /// Writes the warp's rows; `target` is the part's first element, in rows of D.
  __device__ void store(bf16* target) const {
    bf16* piece = target + row * D + column;
#pragma unroll
    for (int g = 0; g < kGroups; ++g) store_rows(piece + 16 * g, D, to_a(sums[g]), kTile, lane);
  }
};

}  // namespace tigon::cuda
