// What every kernel of liger_attention does with one chunk's keys and with rows of queries.
//
// Gates. b is the running sum of log-gates over a segment. Query i meets key j ≤ i through
// exp(b_i − b_j), which must not be split into exp(b_i) · exp(−b_j): that overflows. A chunk is cut
// into four sub-chunks of 16 tokens; c is b counted from the sub-chunk's start, T its value at the
// end, m its value after 8 tokens.
//   same sub-chunk      exp(c_i − m) · exp(m − c_j): exponents within ±80 by the bound below
//   earlier sub-chunk   exp(c_i) · (decay of the sub-chunks between) · exp(T − c_j): all ≤ 1
// Products of the first kind for j > i may overflow; they are replaced by 0, never multiplied.
// There a log-gate below −10 counts as −10: a factor of 4.5e-5, far under bf16's rounding, stands
// for 0.
#pragma once
#include "ops/liger_attention/liger_attention_params.h"
#include "ops/matrix_tiles.cuh"

namespace tigon::cuda {

using bf16 = __nv_bfloat16;

inline constexpr int kSubChunks = kChunkTokens / kTile;
inline constexpr float kLog2E = 1.4426950408889634f;
inline constexpr float kLowestLogGate = -10.0f * kLog2E;  // base 2
inline constexpr float kLowestGate = 4.5399930e-5f;       // exp(−10)

/// Base-2 logarithm of the gate, log2(σ(k)) / normalizer, unbounded.
__device__ inline float log2_gate(float k, float inverse_normalizer) {
  const float softplus = log2_fast(1.0f + exp2_fast(-fabsf(k) * kLog2E));
  return (fminf(k, 0.0f) * kLog2E - softplus) * inverse_normalizer;
}

__device__ inline bf16* head_of(const LigerTokens& tokens, int64_t token, int head, int head_dim) {
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

/// The same through the rotary embedding; `rotations` are row 0's.
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
      uint32_t* a = reinterpret_cast<uint32_t*>(&low);
      uint32_t* b = reinterpret_cast<uint32_t*>(&high);
      const float4* angle = reinterpret_cast<const float4*>(
          rotations + (row * static_cast<int64_t>(D / 2) + column) * 2);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 x = unpack(a[i]), y = unpack(b[i]);
        const float4 cos_sin = angle[i];
        a[i] = pack(x.x * cos_sin.x - y.x * cos_sin.y, x.y * cos_sin.z - y.y * cos_sin.w);
        b[i] = pack(y.x * cos_sin.x + x.x * cos_sin.y, y.y * cos_sin.z + x.y * cos_sin.w);
      }
    }
    *reinterpret_cast<uint4*>(tile + row * kRowStride<D> + column) = low;
    *reinterpret_cast<uint4*>(tile + row * kRowStride<D> + column + D / 2) = high;
  }
}

/// Softmax over a row: φ(x) = exp2(x·log2 e − maximum) · inverse_sum.
struct RowSoftmax {
  float maximum, inverse_sum;

  __device__ float value(float x) const { return exp2_fast(x * kLog2E - maximum) * inverse_sum; }
};

/// A quarter of a row of a tile: four neighbouring threads share a row, so that 16-byte accesses
/// of eight threads meet different banks.
template <int D>
struct RowQuarter {
  static constexpr int kPieces = D / 32;  // of 8 channels

  uint4 x[kPieces];

  /// `row` is the row's first element.
  __device__ RowQuarter(const bf16* row, int quarter) {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) x[i] = reinterpret_cast<const uint4*>(row)[4 * i + quarter];
  }

  /// All four threads of the row get the result.
  __device__ RowSoftmax softmax() const {
    float largest = -INFINITY, sum = 0;
    for_each([&](float2 pair) { largest = fmaxf(largest, fmaxf(pair.x, pair.y)); });
    largest = row_max(largest) * kLog2E;
    for_each([&](float2 pair) {
      sum += exp2_fast(pair.x * kLog2E - largest) + exp2_fast(pair.y * kLog2E - largest);
    });
    return {largest, 1.0f / row_sum(sum)};
  }

  /// target = φ(x) ⊙ factor; both are the row's first elements.
  __device__ void store_mapped(bf16* target, const bf16* factor, const RowSoftmax& softmax,
                               int quarter) const {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const uint4 factors = reinterpret_cast<const uint4*>(factor)[4 * i + quarter];
      uint4 out;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float2 a = unpack(reinterpret_cast<const uint32_t*>(&x[i])[j]);
        const float2 b = unpack(reinterpret_cast<const uint32_t*>(&factors)[j]);
        reinterpret_cast<uint32_t*>(&out)[j] =
            pack(softmax.value(a.x) * b.x, softmax.value(a.y) * b.y);
      }
      reinterpret_cast<uint4*>(target)[4 * i + quarter] = out;
    }
  }

 private:
  template <typename Visit>
  __device__ void for_each(Visit visit) const {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) visit(unpack(reinterpret_cast<const uint32_t*>(&x[i])[j]));
    }
  }
};

/// A chunk's gates and mapped keys in shared memory. Tiles have 64 rows; null ones are not made.
struct ChunkKeys {
  bf16* to_end;         // φ(k) ⊙ exp(T − c)
  bf16* to_middle;      // φ(k) ⊙ exp(m − c); holds k itself before make_chunk_keys()
  bf16* from_start;     // exp(c)
  bf16* from_middle;    // exp(c − m)
  float* decay;         // [4, D] exp(T)
  RowSoftmax* softmax;  // [64]
};

/// Visits the decays of one sub-chunk and two neighbouring channels, as products of the gates
/// themselves, so that a gate costs one exponential. `from_start(i, exp(c))`; `to_end(i,
/// exp(T − c))`; `middle(i, exp(m − c), exp(c − m))` of the bounded gates. Returns exp(T).
template <typename FromStart, typename ToEnd, typename Middle>
__device__ float2 visit_decays(const float2 (&gate)[kTile], FromStart from_start, ToEnd to_end,
                               Middle middle) {
  constexpr int kMiddle = kTile / 2 - 1;  // the last of the first half
  float2 whole = {1, 1};
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    whole.x *= gate[i].x;
    whole.y *= gate[i].y;
    from_start(i, whole);
  }
  float2 decay = {1, 1};
#pragma unroll
  for (int i = kTile - 1; i >= 0; --i) {
    to_end(i, decay);
    decay.x *= gate[i].x;
    decay.y *= gate[i].y;
  }
  decay = {1, 1};
#pragma unroll
  for (int i = kMiddle; i >= 0; --i) {
    middle(i, decay, float2{reciprocal(decay.x), reciprocal(decay.y)});
    decay.x *= fmaxf(gate[i].x, kLowestGate);
    decay.y *= fmaxf(gate[i].y, kLowestGate);
  }
  decay = {1, 1};
#pragma unroll
  for (int i = kMiddle + 1; i < kTile; ++i) {
    decay.x *= fmaxf(gate[i].x, kLowestGate);
    decay.y *= fmaxf(gate[i].y, kLowestGate);
    middle(i, float2{reciprocal(decay.x), reciprocal(decay.y)}, decay);
  }
  return whole;
}

/// Two neighbouring channels of one sub-chunk.
template <int D>
__device__ void make_sub_chunk_keys(const ChunkKeys& keys, int sub_chunk, int channel, int length,
                                    float inverse_normalizer) {
  const int first = sub_chunk * kTile, start = first * kRowStride<D> + channel;
  float2 gate[kTile], phi[kTile];
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    const float2 k = unpack(load_pair(keys.to_middle + start + i * kRowStride<D>));
    const RowSoftmax& softmax = keys.softmax[first + i];
    const bool is_there = first + i < length;
    gate[i].x = is_there ? exp2_fast(log2_gate(k.x, inverse_normalizer)) : 1.0f;
    gate[i].y = is_there ? exp2_fast(log2_gate(k.y, inverse_normalizer)) : 1.0f;
    phi[i].x = is_there ? softmax.value(k.x) : 0.0f;
    phi[i].y = is_there ? softmax.value(k.y) : 0.0f;
  }
  const auto put = [&](bf16* tile, int i, float2 pair) {
    if (tile) store_pair(tile + start + i * kRowStride<D>, pair.x, pair.y);
  };
  const auto with_phi = [&](int i, float2 decay) {
    return float2{phi[i].x * decay.x, phi[i].y * decay.y};
  };
  const float2 whole = visit_decays(
      gate, [&](int i, float2 decay) { put(keys.from_start, i, decay); },
      [&](int i, float2 decay) { put(keys.to_end, i, with_phi(i, decay)); },
      [&](int i, float2 to_middle, float2 from_middle) {
        put(keys.to_middle, i, with_phi(i, to_middle));
        put(keys.from_middle, i, from_middle);
      });
  *reinterpret_cast<float2*>(keys.decay + sub_chunk * D + channel) = whole;
}

/// All threads of the block. The copy of k into to_middle must have been waited for, with a
/// barrier; ends with a barrier. Rows from `length` on get gate 1 and φ(k) = 0.
template <int D>
__device__ void make_chunk_keys(const ChunkKeys& keys, int length, float inverse_normalizer) {
  for (int item = threadIdx.x; item < 4 * kChunkTokens; item += blockDim.x) {
    const int row = item / 4, quarter = item % 4;
    const RowQuarter<D> part(keys.to_middle + row * kRowStride<D>, quarter);
    const RowSoftmax softmax = part.softmax();
    if (quarter == 0) keys.softmax[row] = softmax;
  }
  __syncthreads();
  for (int item = threadIdx.x; item < kSubChunks * (D / 2); item += blockDim.x) {
    make_sub_chunk_keys<D>(keys, item / (D / 2), item % (D / 2) * 2, length, inverse_normalizer);
  }
  __syncthreads();
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

/// The two rows of a thread's fragments.
struct FragmentSoftmax {
  RowSoftmax row[2];
};

template <int D>
__device__ FragmentSoftmax softmax_of_fragments(const FragmentA (&x)[D / 16]) {
  FragmentSoftmax result;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float largest = -INFINITY, sum = 0;
#pragma unroll
    for (int i = 0; i < D / 16; ++i) {
#pragma unroll
      for (int j = half; j < 4; j += 2) {
        const float2 pair = unpack(x[i].x[j]);
        largest = fmaxf(largest, fmaxf(pair.x, pair.y));
      }
    }
    largest = row_max(largest) * kLog2E;
#pragma unroll
    for (int i = 0; i < D / 16; ++i) {
#pragma unroll
      for (int j = half; j < 4; j += 2) {
        const float2 pair = unpack(x[i].x[j]);
        sum += exp2_fast(pair.x * kLog2E - largest) + exp2_fast(pair.y * kLog2E - largest);
      }
    }
    result.row[half] = {largest, 1.0f / row_sum(sum)};
  }
  return result;
}

/// φ of a fragment.
__device__ inline FragmentC mapped(const FragmentA& x, const FragmentSoftmax& softmax) {
  FragmentC phi;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = unpack(x.x[i]);
    phi.x[2 * i] = softmax.row[i % 2].value(pair.x);
    phi.x[2 * i + 1] = softmax.row[i % 2].value(pair.y);
  }
  return phi;
}

/// cos, sin of two neighbouring channels of a row, for pair `i` of fragment `group`. Rows from
/// `valid` on read the last valid row's.
template <int D>
__device__ float4 rotation_of(const float* rotations, int group, int i, int valid, int lane) {
  const int row = min(fragment_row(i, lane), valid - 1);
  const int column = 16 * group + fragment_column(i, lane);
  return *reinterpret_cast<const float4*>(rotations + (row * (D / 2) + column) * 2);
}

/// RoPE on 16 rows; `rotations` are the first row's, of which `valid` > 0 exist.
template <int D>
__device__ void rotate(FragmentA (&x)[D / 16], const float* rotations, int valid, int lane) {
#pragma unroll
  for (int group = 0; group < D / 32; ++group) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float4 angle = rotation_of<D>(rotations, group, i, valid, lane);
      uint32_t& first = x[group].x[i];
      uint32_t& second = x[group + D / 32].x[i];
      const float2 a = unpack(first), b = unpack(second);
      first = pack(a.x * angle.x - b.x * angle.y, a.y * angle.z - b.y * angle.w);
      second = pack(b.x * angle.x + a.x * angle.y, b.y * angle.z + a.y * angle.w);
    }
  }
}

/// The gradient of rotate for column groups `group` and group + D/32: rotates the other way.
template <int D>
__device__ void rotate_back(FragmentC& first, FragmentC& second, int group, const float* rotations,
                            int valid, int lane) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float4 angle = rotation_of<D>(rotations, group, i, valid, lane);
    const float ax = first.x[2 * i], ay = first.x[2 * i + 1];
    const float bx = second.x[2 * i], by = second.x[2 * i + 1];
    first.x[2 * i] = ax * angle.x + bx * angle.y;
    first.x[2 * i + 1] = ay * angle.z + by * angle.w;
    second.x[2 * i] = bx * angle.x - ax * angle.y;
    second.x[2 * i + 1] = by * angle.z - ay * angle.w;
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

/// −∞ for keys that are not in the window of a query. Rows are queries, columns keys; the first key
/// lies `distance` tokens behind the first query.
__device__ inline void keep_window(FragmentC& c, int distance, int window_keys, int lane) {
  // All of 16 by 16 pairs are seen.
  if (distance >= kTile - 1 && distance + kTile - 1 < window_keys) return;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int behind = distance + fragment_row(i / 2, lane) - fragment_column(i / 2, lane) - i % 2;
    if (behind < 0 || behind >= window_keys) c.x[i] = -INFINITY;
  }
}

/// The same where rows are keys and columns queries.
__device__ inline void keep_window_transposed(FragmentC& c, int distance, int window_keys,
                                              int lane) {
  if (distance >= kTile - 1 && distance + kTile - 1 < window_keys) return;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int behind = distance - fragment_row(i / 2, lane) + fragment_column(i / 2, lane) + i % 2;
    if (behind < 0 || behind >= window_keys) c.x[i] = -INFINITY;
  }
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

}  // namespace tigon::cuda
