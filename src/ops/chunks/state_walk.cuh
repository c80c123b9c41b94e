// A state that walks along the chunks of a segment, in the registers of a block: each block holds
// D/2 of its rows.
#pragma once
#include "ops/chunks/chunk_rows.cuh"

namespace tigon::cuda {

/// A warp holds 16 rows by half of the columns, so that it writes 64 bytes of a row at a time.
/// `kFactors` vectors of a float for each row come with a chunk.
template <int D, int kFactors = 0>
struct StateWalk {
  static constexpr int kRows = D / 2;
  static constexpr int kColumns = D / 2;
  static constexpr int kThreads = 32 * (kRows / 16) * 2;
  static constexpr int kGroups = kColumns / 16;
  /// Chunks that are there or on their way: what two blocks a multiprocessor have room for.
  static constexpr int kStages = 4;

  /// A chunk's keys, whose channels are the rows, and values, whose channels are the columns.
  struct Stage {
    alignas(16) bf16 keys[kChunkTokens * kRowStride<kRows>];
    alignas(16) bf16 values[kChunkTokens * kRowStride<D>];
    alignas(16) float factors[kFactors > 0 ? kFactors* kRows : 4];
  };

  FragmentC sums[kGroups];
  int lane, row, column;  // the warp's first, of the block's

  __device__ StateWalk()
      : lane(threadIdx.x % 32),
        row(static_cast<int>(threadIdx.x) / 64 * 16),
        column(static_cast<int>(threadIdx.x) / 32 % 2 * kColumns) {
    for (FragmentC& c : sums) c.clear();
  }

  /// Starts the copies of 64 tokens; rows from `length` on become zero.
  __device__ static void load_keys(Stage& stage, const bf16* source, int64_t stride, int length) {
    load_rows<kRows, kChunkTokens, kThreads>(stage.keys, source, stride, 0, length);
  }
  __device__ static void load_values(Stage& stage, const bf16* source, int64_t stride, int length) {
    load_rows<D, kChunkTokens, kThreads>(stage.values, source, stride, 0, length);
  }
  /// The block's rows of vectors that lie D floats apart.
  __device__ static void load_factors(Stage& stage, const float* source) {
    constexpr int kPieces = kRows / 4;
    for (int item = threadIdx.x; item < kFactors * kPieces; item += kThreads) {
      copy_16_bytes(stage.factors + item * 4, source + item / kPieces * D + item % kPieces * 4,
                    true);
    }
  }

  /// Visits `count` chunks in order: load(n, stage) ahead of time, then step(n, stage).
  template <typename Load, typename Step>
  __device__ static void walk(char* memory, int count, Load load, Step step) {
    auto* stages = reinterpret_cast<Stage*>(memory);
    const auto start = [&](int n) {
      if (n < count) load(n, stages[n % kStages]);
      end_copy_group();
    };
    for (int n = 0; n + 1 < kStages; ++n) start(n);
    for (int n = 0; n < count; ++n) {
      wait_for_copy_groups<kStages - 2>();
      __syncthreads();
      start(n + kStages - 1);
      step(n, stages[n % kStages]);
    }
  }

  /// The warp's rows of keysᵀ for sub-chunk j of 16 tokens.
  __device__ FragmentA keys(const Stage& stage, int j) const {
    return load_a_transposed<kRows>(stage.keys + j * kTile * kRowStride<kRows> + row, lane);
  }

  /// sums += keys · values over sub-chunk j.
  __device__ void add(const FragmentA& keys, const Stage& stage, int j) {
    const bf16* values = stage.values + j * kTile * kRowStride<D> + column;
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      multiply_add(sums[g], keys, load_b_transposed<D>(values + 16 * g, lane));
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
  /// All rows times the stage's factor number `index`.
  __device__ void scale_rows(const Stage& stage, int index) {
    const float* factors = stage.factors + index * kRows + row + fragment_row(0, lane);
    scale_rows(factors[0], factors[8]);
  }

  /// visit(row, column, two neighbouring sums), within the block's rows.
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

  /// Writes the warp's part; `target` is the block's first row.
  __device__ void store(bf16* target) const {
    bf16* part = target + row * D + column;
#pragma unroll
    for (int g = 0; g + 1 < kGroups; g += 2) {
      store_rows(part + 16 * g, D, to_a(sums[g]), to_a(sums[g + 1]), kTile, lane);
    }
    if constexpr (kGroups % 2 == 1) {
      store_rows(part + 16 * (kGroups - 1), D, to_a(sums[kGroups - 1]), kTile, lane);
    }
  }
};

}  // namespace tigon::cuda
