// The tensor core's products of a warpgroup, four neighbouring warps (wgmma: sm_90a alone), with
// operands straight from shared memory.
//
// Operands lie in panels: 64 rows of 64 bf16, 128 bytes a row, whose 16-byte pieces change places
// from row to row (the hardware's 128-byte swizzle). A tile of D columns is D/64 panels one after
// the other. Every panel starts at a multiple of 1024 bytes.
//
// Products run on while the threads go on: begin_products(), some products, end_products(), and
// before anything reads a sum or writes an operand wait_for_products() and settle() of the sums.
#pragma once
#include "ops/matrix_tiles.cuh"

namespace tigon::cuda {

inline constexpr int kPanel = 64;  // rows and columns
inline constexpr int kPanelElements = kPanel * kPanel;

/// Element of a tile of D columns; rows from 64 on belong to the next tile.
template <int D>
__device__ int panel_at(int row, int column) {
  return (row >> 6) * (kPanel * D) + (column >> 6) * kPanelElements + (row & 63) * kPanel +
         (((column >> 3 & 7) ^ (row & 7)) << 3) + (column & 7);
}

/// Where the hardware finds rows of a panel, from row 8·n or, for 16 columns of the contraction
/// among the 64, from column 16·n on. Steps are in pieces of eight elements.
struct PanelPlace {
  uint32_t low;

  __device__ explicit PanelPlace(const __nv_bfloat16* panel)
      : low((shared_address(panel) & 0x3ffffu) >> 4 | 1u << 16) {}
  __device__ PanelPlace operator+(int step) const { return PanelPlace(low + step); }
  /// With the distance of eight rows and the swizzle.
  __device__ uint64_t descriptor() const {
    constexpr uint64_t kHigh = 1024 / 16 | uint64_t{1} << 30;
    return kHigh << 32 | low;
  }

 private:
  __device__ explicit PanelPlace(uint32_t low) : low(low) {}
};

/// Writes of this thread to shared memory are seen by products that begin after a barrier.
__device__ inline void publish_to_products() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ inline void begin_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ inline void end_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Until all that end_products() closed are done.
__device__ inline void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
}

/// Sums of 64 rows by 64 columns: a warp holds 16 rows, as four fragments side by side.
using PanelSums = FragmentC[4];

/// What follows sees the sums as the wait left them.
__device__ inline void settle(FragmentC& c) {
#pragma unroll
  for (float& x : c.x) asm volatile("" : "+f"(x)::"memory");
}
template <int kCount>
__device__ void settle(FragmentC (&sums)[kCount]) {
#pragma unroll
  for (FragmentC& c : sums) settle(c);
}

/// sums (+)= a · b over 16 terms: a [64, 16] rows of a panel; b [16, 64], by kTransposed
/// b[k, n] = panel[k][n], else panel[n][k]. Without `accumulate` the sums start here.
template <bool kTransposed>
__device__ void multiply_panels(PanelSums& sums, PanelPlace a, PanelPlace b,
                                bool accumulate = true) {
  float* c[4] = {sums[0].x, sums[1].x, sums[2].x, sums[3].x};
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "%32, %33, p, 1, 1, 0, %35;\n}"
      : "+f"(c[0][0]), "+f"(c[0][1]), "+f"(c[0][2]), "+f"(c[0][3]), "+f"(c[0][4]), "+f"(c[0][5]),
        "+f"(c[0][6]), "+f"(c[0][7]), "+f"(c[1][0]), "+f"(c[1][1]), "+f"(c[1][2]), "+f"(c[1][3]),
        "+f"(c[1][4]), "+f"(c[1][5]), "+f"(c[1][6]), "+f"(c[1][7]), "+f"(c[2][0]), "+f"(c[2][1]),
        "+f"(c[2][2]), "+f"(c[2][3]), "+f"(c[2][4]), "+f"(c[2][5]), "+f"(c[2][6]), "+f"(c[2][7]),
        "+f"(c[3][0]), "+f"(c[3][1]), "+f"(c[3][2]), "+f"(c[3][3]), "+f"(c[3][4]), "+f"(c[3][5]),
        "+f"(c[3][6]), "+f"(c[3][7])
      : "l"(a.descriptor()), "l"(b.descriptor()), "r"(static_cast<int>(accumulate)),
        "n"(kTransposed ? 1 : 0));
}

/// The same with a from registers (each warp its 16 rows) and b[k, n] = panel[k][n].
__device__ inline void multiply_rows(PanelSums& sums, const FragmentA& a, PanelPlace b,
                                     bool accumulate = true) {
  float* c[4] = {sums[0].x, sums[1].x, sums[2].x, sums[3].x};
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "{%32, %33, %34, %35}, %36, p, 1, 1, 1;\n}"
      : "+f"(c[0][0]), "+f"(c[0][1]), "+f"(c[0][2]), "+f"(c[0][3]), "+f"(c[0][4]), "+f"(c[0][5]),
        "+f"(c[0][6]), "+f"(c[0][7]), "+f"(c[1][0]), "+f"(c[1][1]), "+f"(c[1][2]), "+f"(c[1][3]),
        "+f"(c[1][4]), "+f"(c[1][5]), "+f"(c[1][6]), "+f"(c[1][7]), "+f"(c[2][0]), "+f"(c[2][1]),
        "+f"(c[2][2]), "+f"(c[2][3]), "+f"(c[2][4]), "+f"(c[2][5]), "+f"(c[2][6]), "+f"(c[2][7]),
        "+f"(c[3][0]), "+f"(c[3][1]), "+f"(c[3][2]), "+f"(c[3][3]), "+f"(c[3][4]), "+f"(c[3][5]),
        "+f"(c[3][6]), "+f"(c[3][7])
      : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "l"(b.descriptor()),
        "r"(static_cast<int>(accumulate)));
}

/// sums (+)= a · b over 16 terms, 64 rows by 32 columns: b[k, n] = panel[n][k].
__device__ inline void multiply_half_panels(FragmentC (&sums)[2], PanelPlace a, PanelPlace b,
                                            bool accumulate) {
  float* c[2] = {sums[0].x, sums[1].x};
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %18, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, "
      "%16, %17, p, 1, 1, 0, 0;\n}"
      : "+f"(c[0][0]), "+f"(c[0][1]), "+f"(c[0][2]), "+f"(c[0][3]), "+f"(c[0][4]), "+f"(c[0][5]),
        "+f"(c[0][6]), "+f"(c[0][7]), "+f"(c[1][0]), "+f"(c[1][1]), "+f"(c[1][2]), "+f"(c[1][3]),
        "+f"(c[1][4]), "+f"(c[1][5]), "+f"(c[1][6]), "+f"(c[1][7])
      : "l"(a.descriptor()), "l"(b.descriptor()), "r"(static_cast<int>(accumulate)));
}

/// Sums of 64 rows by 16 columns += a · b over 16 terms, b[k, n] = panel[n][k].
__device__ inline void multiply_columns(FragmentC& c, PanelPlace a, PanelPlace b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7}, %8, %9, 1, 1, 1, 0, 0;"
      : "+f"(c.x[0]), "+f"(c.x[1]), "+f"(c.x[2]), "+f"(c.x[3]), "+f"(c.x[4]), "+f"(c.x[5]),
        "+f"(c.x[6]), "+f"(c.x[7])
      : "l"(a.descriptor()), "l"(b.descriptor()));
}

/// A[m, k] = tile[16·tile_row + m][16·group + k] of a tile of D columns.
template <int D>
__device__ FragmentA load_panel_a(const __nv_bfloat16* tile, int tile_row, int group, int lane) {
  FragmentA a;
  load_matrices(a.x, tile + panel_at<D>(16 * tile_row + lane % 16, 16 * group + lane / 16 * 8));
  return a;
}

/// Rows `first` … first + rows − 1 of a tile from device memory by kThreads threads, this one being
/// number `thread`; `source` is the first of them, and from number `length` on they become zero.
/// Wait with wait_for_copies(), publish_to_products() and a barrier.
template <int D, int kThreads>
__device__ void copy_panel_rows(__nv_bfloat16* tile, const __nv_bfloat16* source, int64_t stride,
                                int first, int rows, int length, int thread) {
  constexpr int kPieces = D / 8, kStep = kThreads / kPieces;
  static_assert(kStep % 8 == 0, "all rows of a thread have one phase");
  const int column = thread % kPieces * 8;
  source += column;
#pragma unroll 4
  for (int row = thread / kPieces; row < rows; row += kStep) {
    copy_16_bytes(tile + panel_at<D>(first + row, column),
                  source + (row < length ? row : 0) * stride, row < length);
  }
}

}  // namespace tigon::cuda
