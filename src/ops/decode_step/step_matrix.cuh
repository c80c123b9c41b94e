// The recurrence's step of one KV head: its matrix is read, moved on, met by the queries and
// written once.
#pragma once
#include "ops/decode_step/group_sums.cuh"

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

/// S ← diag(kept) S + keyᵀ values and out = queries S, of a matrix [rows, columns]; rows is a
/// multiple of 4. Four rows are `columns` pieces of 16 bytes whatever the number of columns, and a
/// thread's pieces of all such panels have the same columns. Pieces come through a queue in shared
/// memory, which each thread has for itself: many are on the way and none takes a register.
template <int kHeads>
class MatrixStep {
 public:
  /// Pieces a thread has on the way: 32 to 36 KiB a block.
  static constexpr int kAhead = 8;

  /// pieces [kAhead, threads] in shared memory.
  __device__ MatrixStep(float* matrix, int rows, int columns, float* pieces)
      : matrix_(reinterpret_cast<float4*>(matrix)),
        pieces_(reinterpret_cast<float4*>(pieces) + threadIdx.x),
        panels_(rows / 4),
        columns_(columns),
        groups_{min(static_cast<int>(blockDim.x) / columns, rows / 4),
                static_cast<int>(threadIdx.x) / columns, static_cast<int>(threadIdx.x) % columns} {}

  /// Asks for the first pieces. Again before each further run.
  __device__ void start() {
    for (int turn = 0; turn < kAhead; ++turn) ask_for(turn);
  }

  /// table [rows, MatrixRow::kFloats], values [columns] and partials in shared memory; → out
  /// [kHeads, columns]. Writes the matrix back if it `changes`. All threads of the block, after a
  /// barrier; ends with one.
  __device__ void run(const float* table, const float* values, bool changes, float* partials,
                      float* out) {
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
        asm volatile("cp.async.wait_group %0;" ::"n"(kAhead - 1) : "memory");
        float4 piece = pieces_[turn % kAhead * blockDim.x];
        step(table + (4 * panel + row) * MatrixRow<kHeads>::kFloats, in_row, value, piece, sums);
        if (changes) matrix_[panel * columns_ + groups_.vector] = piece;
        ask_for(turn + kAhead);
        ++turn;
      }
    }
    sum_groups<kHeads>(sums, groups_, columns_, 4, partials, out);
  }

 private:
  /// Every turn is a group of its own, so that waiting for all but the last kAhead − 1 waits for
  /// the oldest.
  __device__ void ask_for(int turn) {
    const int panel = groups_.own + turn * groups_.count;
    if (groups_.is_in_one() && panel < panels_) {
      const auto to =
          static_cast<unsigned>(__cvta_generic_to_shared(pieces_ + turn % kAhead * blockDim.x));
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to),
                   "l"(matrix_ + panel * columns_ + groups_.vector)
                   : "memory");
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

  float4* matrix_;
  float4* pieces_;  // the thread's own
  int panels_, columns_;
  Groups groups_;
};

}  // namespace tigon::cuda
