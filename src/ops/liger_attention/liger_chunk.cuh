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
#include "ops/chunks/chunk_rows.cuh"
#include "ops/liger_attention/liger_attention_params.h"
#include "ops/matrix_tiles.cuh"

namespace tigon::cuda {

inline constexpr int kSubChunks = kChunkTokens / kTile;
inline constexpr float kLowestLogGate = -10.0f * kLog2E;  // base 2
inline constexpr float kLowestGate = 4.5399930e-5f;       // exp(−10)

/// Base-2 logarithm of the gate, log2(σ(k)) / normalizer, unbounded.
__device__ inline float log2_gate(float k, float inverse_normalizer) {
  const float softplus = log2_fast(1.0f + exp2_fast(-fabsf(k) * kLog2E));
  return (fminf(k, 0.0f) * kLog2E - softplus) * inverse_normalizer;
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

}  // namespace tigon::cuda
