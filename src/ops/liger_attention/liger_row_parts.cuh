// Rows of one head in the registers of the threads that map them: softmax and rotation.
#pragma once
#include <cuda_fp16.h>

#include "ops/chunks/chunk_rows.cuh"
#include "ops/liger_attention/liger_chunk.cuh"
#include "ops/warpgroup_products.cuh"

namespace tigon::cuda {

/// A part of a row: two pieces of 8 channels, D/2 apart, which the rotation mixes. A warp holds
/// kRows whole rows; neighbouring lanes hold different rows, for the banks' sake.
template <int D>
struct RowPart {
  static constexpr int kParts = D / 16;  // threads of a row
  static constexpr int kRows = 32 / kParts;
  static constexpr int kUnits = kChunkTokens / kRows;  // a warp's rows, of a chunk
  static constexpr int kSpread = 8 / kRows;
  static constexpr int kPieces = 2;

  uint4 x[kPieces];

  /// The lane's row of unit `unit`.
  __device__ static int row(int unit, int lane) {
    return unit / kSpread * 8 + unit % kSpread + lane % kRows * kSpread;
  }
  /// First channel of piece i.
  __device__ static int channel(int i, int lane) { return lane / kRows * 8 + i * (D / 2); }

  /// Zero if the row is not there.
  __device__ void load(const bf16* source, bool is_there, int lane) {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      x[i] =
          is_there ? *reinterpret_cast<const uint4*>(source + channel(i, lane)) : uint4{0, 0, 0, 0};
    }
  }

  __device__ void store(bf16* tile, int row, int lane) const {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      *reinterpret_cast<uint4*>(tile + panel_at<D>(row, channel(i, lane))) = x[i];
    }
  }

  /// Hides from the compiler what the words are, which would unpack them ahead of a loop otherwise,
  /// into twice as many registers.
  __device__ void keep_packed() {
#pragma unroll
    for (uint4& piece : x) {
      asm volatile("" : "+r"(piece.x), "+r"(piece.y), "+r"(piece.z), "+r"(piece.w));
    }
  }

  /// The four words of piece i.
  __device__ const uint32_t* words(int i) const {
    return reinterpret_cast<const uint32_t*>(&x[i]);
  }
  __device__ uint32_t* words(int i) {
    return reinterpret_cast<uint32_t*>(&x[i]);
  }

  /// Through the rotary embedding; `angle(j)` is cos, sin of channels 2·j and 2·j + 1 of a piece.
  template <typename Angle>
  __device__ RowPart rotated(Angle angle) const {
    RowPart result = *this;
#pragma unroll
    for (int j = 0; j < 4; ++j) rotate_pairs(result.words(0)[j], result.words(1)[j], angle(j));
    return result;
  }
};

/// exp2(x·log2 e − maximum) of a part, and the row's statistics.
template <int D>
struct RowExponentials {
  float2 values[RowPart<D>::kPieces][4];
  RowSoftmax softmax;

  __device__ explicit RowExponentials(const RowPart<D>& part) {
    constexpr int kPieces = RowPart<D>::kPieces;
    float largest = -INFINITY, sum = 0;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        values[i][j] = unpack(part.words(i)[j]);
        largest = fmaxf(largest, fmaxf(values[i][j].x, values[i][j].y));
      }
    }
#pragma unroll
    for (int apart = RowPart<D>::kRows; apart < 32; apart *= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, apart));
    }
    largest *= kLog2E;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        float2& value = values[i][j];
        value = {exp2_fast(value.x * kLog2E - largest), exp2_fast(value.y * kLog2E - largest)};
        sum += value.x + value.y;
      }
    }
#pragma unroll
    for (int apart = RowPart<D>::kRows; apart < 32; apart *= 2) {
      sum += __shfl_xor_sync(0xffffffffu, sum, apart);
    }
    softmax = {largest, 1.0f / sum};
  }

  /// values · factor ⊙ gates, rounded.
  __device__ RowPart<D> gated(const RowPart<D>& gates, float factor) const {
    RowPart<D> result;
#pragma unroll
    for (int i = 0; i < RowPart<D>::kPieces; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float2 gate = unpack(gates.words(i)[j]);
        result.words(i)[j] =
            pack(values[i][j].x * factor * gate.x, values[i][j].y * factor * gate.y);
      }
    }
    return result;
  }
};

__device__ inline uint32_t angle_bits(float cos, float sin) {
  const __half2 pair = __floats2half2_rn(cos, sin);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

/// cos and sin as pairs of float16, a tile of D numbers a row: angle c of a row at columns 2·c and
/// 2·c + 1; nothing is lost (chunk_layout.h).
template <int D, int kThreads>
__device__ void load_angles(__half* tile, const float* rotations, int rows, int end) {
  constexpr int kPieces = D / 8;  // of four angles
#pragma unroll 4
  for (int item = threadIdx.x; item < rows * kPieces; item += kThreads) {
    const int row = item / kPieces, column = item % kPieces * 8;
    const float4* source = reinterpret_cast<const float4*>(
        rotations + min(row, end - 1) * static_cast<int64_t>(D) + column);
    const float4 a = source[0], b = source[1];
    *reinterpret_cast<uint4*>(tile + panel_at<D>(row, column)) = {
        angle_bits(a.x, a.y), angle_bits(a.z, a.w), angle_bits(b.x, b.y), angle_bits(b.z, b.w)};
  }
}

__device__ inline float2 angle_of(uint32_t bits) {
  return __half22float2(reinterpret_cast<const __half2&>(bits));
}

/// A row's part through the rotary embedding with the angles of row `row` of such a tile.
template <int D>
__device__ RowPart<D> rotated_by(const RowPart<D>& part, const __half* angles, int row, int lane) {
  const int column = 2 * RowPart<D>::channel(0, lane);
  const uint4 first = *reinterpret_cast<const uint4*>(angles + panel_at<D>(row, column));
  const uint4 second = *reinterpret_cast<const uint4*>(angles + panel_at<D>(row, column + 8));
  const uint32_t words[8] = {first.x,  first.y,  first.z,  first.w,
                             second.x, second.y, second.z, second.w};
  return part.rotated([&](int j) {
    const float2 even = angle_of(words[2 * j]), odd = angle_of(words[2 * j + 1]);
    return float4{even.x, even.y, odd.x, odd.y};
  });
}

}  // namespace tigon::cuda
