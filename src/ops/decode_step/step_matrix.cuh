// The recurrence's step of one KV head: its matrix is read, moved on, met by the queries and
// written once.
#pragma once
#include "ops/decode_step/group_sums.cuh"
#include "ops/decode_step/step_place.cuh"
#include "ops/stochastic_round/stochastic_round.cuh"

namespace tigon::cuda {

/// What belongs to a row of the matrix, in shared memory: how much of the row is kept, what of the
/// values is added, and each query head's feature.
template <int kHeads>
struct MatrixRow {
  static constexpr int kFloats = (2 + kHeads + 3) / 4 * 4;  // as whole 16-byte pieces
  float numbers[kFloats];

  __device__ explicit MatrixRow(const float* row) {
#pragma unroll
    for (int i = 0; i < kFloats; i += 4) {
      const FloatVector<float> four = load_vector(row + i);
#pragma unroll
      for (int j = 0; j < 4; ++j) numbers[i + j] = four[j];
    }
  }
  __device__ float kept() const {
    return numbers[0];
  }
  __device__ float key() const {
    return numbers[1];
  }
  __device__ float query(int head) const {
    return numbers[2 + head];
  }
};

/// Pieces of a matrix, four numbers each, that a thread has on the way: 32 to 36 KiB a block of
/// float32. More of the smaller ones would need registers that are not there.
inline constexpr int kPiecesAhead = 8;

/// Numbers 4·piece … of a matrix as they are stored.
__device__ inline FourNumbers<float> as_stored(float4 x, int /*piece*/, const RoundingBits&,
                                               float) {
  return {x};
}
__device__ inline FourNumbers<__nv_bfloat16> as_stored(float4 x, int piece,
                                                       const RoundingBits& bits, __nv_bfloat16) {
  return {stochastic_round(x, bits.of_pair(2 * piece), bits.of_pair(2 * piece + 1))};
}

/// S ← diag(kept) S + keyᵀ values and out = queries S, of a matrix [rows, columns] of `Stored`
/// numbers; rows is a multiple of 4. Four rows are `columns` pieces of four numbers whatever the
/// number of columns, and a thread's pieces of all such panels have the same columns. Pieces come
/// through a queue in shared memory, which each thread has for itself: many are on the way and none
/// takes a register.
template <typename Stored, int kHeads>
class MatrixStep {
 public:
  using Piece = FourNumbers<Stored>;

  /// queue [kPiecesAhead, threads, 4] in shared memory.
  __device__ MatrixStep(Stored* matrix, int rows, int columns, float* queue)
      : matrix_(reinterpret_cast<Piece*>(matrix)),
        pieces_(reinterpret_cast<Piece*>(queue) + threadIdx.x),
        panels_(rows / 4),
        columns_(columns),
        groups_{min(static_cast<int>(blockDim.x) / columns, rows / 4),
                static_cast<int>(threadIdx.x) / columns, static_cast<int>(threadIdx.x) % columns} {}

  /// Asks for the first pieces. Again before each further run.
  __device__ void start() {
    for (int turn = 0; turn < kPiecesAhead; ++turn) ask_for(turn);
  }

  /// table [rows, MatrixRow::kFloats], values [columns] and partials in shared memory; → out
  /// [kHeads, columns]. Writes the matrix back if it `is_kept`. All threads of the block, after a
  /// barrier; ends with one.
  __device__ void run(const float* table, const float* values, bool is_kept,
                      const RoundingBits& bits, float* partials, float* out) {
    float sums[kHeads][4] = {};
    const int flat = 4 * groups_.vector;
    const int row = flat / columns_;                         // of the panel, of the first number
    const int in_row = min(4, (row + 1) * columns_ - flat);  // numbers there; the rest lie below
    if (groups_.is_in_one()) {
      float value[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) value[i] = values[(flat + i) % columns_];
      int turn = 0;
#pragma unroll 2
      for (int panel = groups_.own; panel < panels_; panel += groups_.count) {
        asm volatile("cp.async.wait_group %0;" ::"n"(kPiecesAhead - 1) : "memory");
        float4 piece = pieces_[turn % kPiecesAhead * blockDim.x].widen();
        step(table + (4 * panel + row) * MatrixRow<kHeads>::kFloats, in_row, value, piece, sums);
        const int index = panel * columns_ + groups_.vector;
        if (is_kept) matrix_[index] = as_stored(piece, index, bits, Stored{});
        ask_for(turn + kPiecesAhead);
        ++turn;
      }
    }
    sum_groups<kHeads>(sums, groups_, columns_, 4, partials, out);
  }

 private:
  /// Every turn is a group of its own, so that waiting for all but the last kPiecesAhead − 1 waits
  /// for the oldest.
  __device__ void ask_for(int turn) {
    const int panel = groups_.own + turn * groups_.count;
    if (groups_.is_in_one() && panel < panels_) {
      const auto to = static_cast<unsigned>(
          __cvta_generic_to_shared(pieces_ + turn % kPiecesAhead * blockDim.x));
      const Piece* from = matrix_ + panel * columns_ + groups_.vector;
      if constexpr (sizeof(Piece) == 16) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
      } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(to), "l"(from) : "memory");
      }
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  }

  __device__ void step(const float* table, int in_row, const float (&value)[4], float4& piece,
                       float (&sums)[kHeads][4]) const {
    float x[4] = {piece.x, piece.y, piece.z, piece.w};
    MatrixRow<kHeads> row(table);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i == in_row) row = MatrixRow<kHeads>(table + MatrixRow<kHeads>::kFloats);
      x[i] = row.kept() * x[i] + row.key() * value[i];
#pragma unroll
      for (int g = 0; g < kHeads; ++g) sums[g][i] += row.query(g) * x[i];
    }
    piece = make_float4(x[0], x[1], x[2], x[3]);
  }

  Piece* matrix_;
  Piece* pieces_;  // the thread's own
  int panels_, columns_;
  Groups groups_;
};

}  // namespace tigon::cuda
