// Rows of one head between device memory, shared memory and fragments, with the rotary embedding on
// their way, and small steps on fragments.
#pragma once
#include "ops/chunks/chunk_layout.h"
#include "ops/matrix_tiles.cuh"

namespace tigon::cuda {

using bf16 = __nv_bfloat16;

inline constexpr float kLog2E = 1.4426950408889634f;

__device__ inline bf16* head_of(const HeadRows& tokens, int64_t token, int head, int head_dim) {
  return static_cast<bf16*>(tokens.data) + token * tokens.token_stride +
         static_cast<int64_t>(head) * head_dim;
}

/// Rows 0 … rows−1 of a tile from consecutive tokens of one head; rows outside [begin, end) become
/// zero. `source` is row 0's. Wait with wait_for_copies() and a barrier.
template <int D>
__device__ void load_rows(bf16* tile, const bf16* source, int64_t stride, int rows, int begin,
                          int end) {
  constexpr int kPieces = D / 8;
  for (int item = threadIdx.x; item < rows * kPieces; item += blockDim.x) {
    const int row = item / kPieces, column = item % kPieces * 8;
    const bool is_there = row >= begin && row < end;
    copy_16_bytes(tile + row * kRowStride<D> + column,
                  source + (is_there ? row : begin) * stride + column, is_there);
  }
}

/// The same by a known number of threads, whose copies then need no loop.
template <int D, int kRows, int kThreads>
__device__ void load_rows(bf16* tile, const bf16* source, int64_t stride, int begin, int end) {
  constexpr int kPieces = D / 8;
#pragma unroll
  for (int first = 0; first < kRows * kPieces; first += kThreads) {
    const int item = first + static_cast<int>(threadIdx.x);
    // Where a row's pieces fall to the same threads each time, all but one division folds.
    const int row = kThreads % kPieces == 0
                        ? static_cast<int>(threadIdx.x) / kPieces + first / kPieces
                        : item / kPieces;
    const int column =
        kThreads % kPieces == 0 ? static_cast<int>(threadIdx.x) % kPieces * 8 : item % kPieces * 8;
    if (kRows * kPieces % kThreads != 0 && item >= kRows * kPieces) break;
    const bool is_there = row >= begin && row < end;
    copy_16_bytes(tile + row * kRowStride<D> + column,
                  source + (is_there ? row : begin) * stride + column, is_there);
  }
}

/// RoPE of two neighbouring channels of a row and of those D/2 behind them, as packed bf16;
/// `cos_sin` of the one and of the other. Rounded step by step, so that every kernel gets the same
/// bits: scores that are made again belong to the log-sum-exp of those before.
__device__ inline void rotate_pairs(uint32_t& first, uint32_t& second, const float4& cos_sin) {
  const float2 a = unpack(first), b = unpack(second);
  first = pack(__fmaf_rn(-b.x, cos_sin.y, __fmul_rn(a.x, cos_sin.x)),
               __fmaf_rn(-b.y, cos_sin.w, __fmul_rn(a.y, cos_sin.z)));
  second = pack(__fmaf_rn(a.x, cos_sin.y, __fmul_rn(b.x, cos_sin.x)),
                __fmaf_rn(a.y, cos_sin.w, __fmul_rn(b.y, cos_sin.z)));
}

/// RoPE on 8 channels of a row's first half and the 8 that they turn with; `angles` are cos and sin
/// of the 8.
__device__ inline void rotate_pieces(uint4& first, uint4& second, const float4* angles) {
  uint32_t* a = reinterpret_cast<uint32_t*>(&first);
  uint32_t* b = reinterpret_cast<uint32_t*>(&second);
#pragma unroll
  for (int i = 0; i < 4; ++i) rotate_pairs(a[i], b[i], angles[i]);
}

/// Writes `rows` rows of a tile through the rotary embedding, item by item from this thread's first
/// on; `rotations` are row 0's, and rows from `length` on take those of the last before.
template <int D>
__device__ void store_rotated_rows(bf16* target, int64_t stride, const bf16* tile,
                                   const float* rotations, int rows, int length, int first_item,
                                   int items_at_once) {
  constexpr int kPieces = D / 16;
  for (int item = first_item; item < rows * kPieces; item += items_at_once) {
    const int row = item / kPieces, column = item % kPieces * 8;
    const bf16* source = tile + row * kRowStride<D> + column;
    uint4 low = *reinterpret_cast<const uint4*>(source);
    uint4 high = *reinterpret_cast<const uint4*>(source + D / 2);
    rotate_pieces(
        low, high,
        reinterpret_cast<const float4*>(rotations + min(row, length - 1) * D + column * 2));
    *reinterpret_cast<uint4*>(target + row * stride + column) = low;
    *reinterpret_cast<uint4*>(target + row * stride + column + D / 2) = high;
  }
}

/// load_rows through the rotary embedding; `rotations` are row 0's.
template <int D>
__device__ void load_rotated_rows(bf16* tile, const bf16* source, int64_t stride,
                                  const float* rotations, int rows, int begin, int end) {
  constexpr int kPieces = D / 16;
  for (int item = threadIdx.x; item < rows * kPieces; item += blockDim.x) {
    const int row = item / kPieces, column = item % kPieces * 8;
    uint4 low = {0, 0, 0, 0}, high = {0, 0, 0, 0};
    if (row >= begin && row < end) {
      low = *reinterpret_cast<const uint4*>(source + row * stride + column);
      high = *reinterpret_cast<const uint4*>(source + row * stride + column + D / 2);
      rotate_pieces(low, high,
                    reinterpret_cast<const float4*>(
                        rotations + (row * static_cast<int64_t>(D / 2) + column) * 2));
    }
    *reinterpret_cast<uint4*>(tile + row * kRowStride<D> + column) = low;
    *reinterpret_cast<uint4*>(tile + row * kRowStride<D> + column + D / 2) = high;
  }
}

/// Starts the copies of 16 rows of one head into a warp's own tile, whole rows at a time; rows from
/// `valid` > 0 on become zero.
template <int D>
__device__ void start_warp_rows(bf16* tile, const bf16* source, int64_t stride, int valid,
                                int lane) {
  constexpr int kPieces = D / 8;
#pragma unroll
  for (int i = 0; i < kTile * kPieces / 32; ++i) {
    const int item = 32 * i + lane, row = item / kPieces, column = item % kPieces * 8;
    const bool is_there = row < valid;
    copy_16_bytes(tile + row * kRowStride<D> + column,
                  source + (is_there ? row : 0) * stride + column, is_there);
  }
}

/// Waits for the rows that start_warp_rows brings, and reads them as A fragments.
template <int D>
__device__ void finish_warp_rows(FragmentA (&rows)[D / 16], const bf16* tile, int lane) {
  wait_for_copies();
  __syncwarp();
#pragma unroll
  for (int g = 0; g < D / 16; ++g) rows[g] = load_a<D>(tile + 16 * g, lane);
}

/// 16 rows of one head as A fragments, straight from device memory; rows from `valid` on are zero.
template <int D>
__device__ void load_query_rows(FragmentA (&rows)[D / 16], const bf16* source, int64_t stride,
                                int valid, int lane) {
  const int row = lane / 4, column = lane % 4 * 2;
  const bf16* upper = source + row * stride + column;
  const bf16* lower = upper + 8 * stride;
#pragma unroll
  for (int i = 0; i < D / 16; ++i) {
    rows[i].x[0] = row < valid ? load_pair(upper + 16 * i) : 0;
    rows[i].x[1] = row + 8 < valid ? load_pair(lower + 16 * i) : 0;
    rows[i].x[2] = row < valid ? load_pair(upper + 16 * i + 8) : 0;
    rows[i].x[3] = row + 8 < valid ? load_pair(lower + 16 * i + 8) : 0;
  }
}

/// Element pair i of a fragment: its row is lane/4 + 8·(i%2), its first column 2·(lane%4) +
/// 8·(i/2).
__device__ inline int fragment_row(int i, int lane) {
  return lane / 4 + i % 2 * 8;
}
__device__ inline int fragment_column(int i, int lane) {
  return lane % 4 * 2 + i / 2 * 8;
}

/// cos, sin of two neighbouring channels of a row, for pair `i` of fragment `group`; rows lie
/// `stride` floats apart. Rows from `valid` on read the last valid row's.
template <int D>
__device__ float4 rotation_of(const float* rotations, int group, int i, int valid, int lane,
                              int stride) {
  const int row = min(fragment_row(i, lane), valid - 1);
  const int column = 16 * group + fragment_column(i, lane);
  return *reinterpret_cast<const float4*>(rotations + row * stride + column * 2);
}

/// RoPE on 16 rows. rotation(group, i) is cos and sin as rotation_of() gives them.
template <int D, typename Rotation>
__device__ void rotate(FragmentA (&x)[D / 16], Rotation rotation) {
#pragma unroll
  for (int group = 0; group < D / 32; ++group) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      rotate_pairs(x[group].x[i], x[group + D / 32].x[i], rotation(group, i));
    }
  }
}

/// `rotations` are the first row's, of which `valid` > 0 exist.
template <int D>
__device__ void rotate(FragmentA (&x)[D / 16], const float* rotations, int valid, int lane,
                       int stride = D) {
  rotate<D>(x, [&](int group, int i) {
    return rotation_of<D>(rotations, group, i, valid, lane, stride);
  });
}

/// The gradient of rotate for column groups `group` and group + D/32: rotates the other way.
template <int D, typename Rotation>
__device__ void rotate_back(FragmentC& first, FragmentC& second, int group, Rotation rotation) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float4 angle = rotation(group, i);
    const float ax = first.x[2 * i], ay = first.x[2 * i + 1];
    const float bx = second.x[2 * i], by = second.x[2 * i + 1];
    first.x[2 * i] = ax * angle.x + bx * angle.y;
    first.x[2 * i + 1] = ay * angle.z + by * angle.w;
    second.x[2 * i] = bx * angle.x - ax * angle.y;
    second.x[2 * i + 1] = by * angle.z - ay * angle.w;
  }
}
template <int D>
__device__ void rotate_back(FragmentC& first, FragmentC& second, int group, const float* rotations,
                            int valid, int lane, int stride = D) {
  rotate_back<D>(first, second, group, [&](int g, int i) {
    return rotation_of<D>(rotations, g, i, valid, lane, stride);
  });
}

/// c ⊙= factor[column], a vector of float over the 16 columns.
__device__ inline void scale_columns(FragmentC& c, const float* factor, int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float2 pair = *reinterpret_cast<const float2*>(factor + lane % 4 * 2 + 8 * half);
    c.x[4 * half] *= pair.x;
    c.x[4 * half + 1] *= pair.y;
    c.x[4 * half + 2] *= pair.x;
    c.x[4 * half + 3] *= pair.y;
  }
}

/// c ⊙= tile, 16 rows and 16 columns of a bf16 tile that starts at `tile`.
template <int D>
__device__ void scale_elements(FragmentC& c, const bf16* tile, int lane) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair =
        unpack(load_pair(tile + fragment_row(i, lane) * kRowStride<D> + fragment_column(i, lane)));
    c.x[2 * i] *= pair.x;
    c.x[2 * i + 1] *= pair.y;
  }
}

/// c *= factor.
__device__ inline void scale(FragmentC& c, float factor) {
#pragma unroll
  for (float& value : c.x) value *= factor;
}

/// Every element.
__device__ inline void fill(FragmentC& c, float value) {
#pragma unroll
  for (float& x : c.x) x = value;
}

/// Zero above the diagonal: row < column.
__device__ inline void keep_lower(FragmentC& c, int lane) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (fragment_row(i / 2, lane) < fragment_column(i / 2, lane) + i % 2) c.x[i] = 0;
  }
}

/// Zero below the diagonal.
__device__ inline void keep_upper(FragmentC& c, int lane) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (fragment_row(i / 2, lane) > fragment_column(i / 2, lane) + i % 2) c.x[i] = 0;
  }
}

/// Writes 16 rows by 16 columns; rows from `valid` on are left out.
__device__ inline void store_rows(bf16* target, int64_t stride, const FragmentC& c, int valid,
                                  int lane) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = fragment_row(i, lane);
    if (row < valid) {
      store_pair(target + row * stride + fragment_column(i, lane), c.x[2 * i], c.x[2 * i + 1]);
    }
  }
}

/// Of a part of 8 columns each lane of a row holds two, in x[part]; afterwards lane i of the four
/// holds all columns of part i, in order.
__device__ inline void exchange_parts(uint32_t (&x)[4], int lane) {
  // Bytes of the first or of the second of two numbers: choices that no compiler makes a branch of.
  constexpr uint32_t kFirst = 0x3210, kSecond = 0x7654;
#pragma unroll
  for (int step = 1; step <= 2; step *= 2) {
    const bool upper = (lane & step) != 0;
    const uint32_t mine = upper ? kSecond : kFirst, other = upper ? kFirst : kSecond;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if ((i & step) != 0) continue;
      const uint32_t sent = __byte_perm(x[i], x[i + step], other);
      const uint32_t received = __shfl_xor_sync(0xffffffffu, sent, step);
      x[i] = __byte_perm(x[i], received, mine);
      x[i + step] = __byte_perm(x[i + step], received, other);
    }
  }
}

/// The same from bf16, 16 bytes a store.
__device__ inline void store_rows(bf16* target, int64_t stride, const FragmentA& a, int valid,
                                  int lane) {
  // Part i: rows 8·(i%2) to + 7, columns 8·(i/2) to + 7.
  uint32_t x[4] = {a.x[0], a.x[1], a.x[2], a.x[3]};
  exchange_parts(x, lane);
  const int row = lane / 4 + lane % 2 * 8;
  if (row < valid) {
    *reinterpret_cast<uint4*>(target + row * stride + lane % 4 / 2 * 8) =
        uint4{x[0], x[1], x[2], x[3]};
  }
}

/// 16 rows by 32 columns, 64 bytes of a row at a time.
__device__ inline void store_rows(bf16* target, int64_t stride, const FragmentA& left,
                                  const FragmentA& right, int valid, int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    uint32_t x[4] = {left.x[half], left.x[half + 2], right.x[half], right.x[half + 2]};
    exchange_parts(x, lane);
    const int row = lane / 4 + 8 * half;
    if (row < valid) {
      *reinterpret_cast<uint4*>(target + row * stride + lane % 4 * 8) =
          uint4{x[0], x[1], x[2], x[3]};
    }
  }
}

/// Left operand of 16 rows and 16 columns as C elements.
__device__ inline FragmentC widened(const FragmentA& a) {
  FragmentC c;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = unpack(a.x[i]);
    c.x[2 * i] = pair.x;
    c.x[2 * i + 1] = pair.y;
  }
  return c;
}

}  // namespace tigon::cuda
