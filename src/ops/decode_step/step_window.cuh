// Softmax attention of one new token over the ring of its sequence: for one KV head and up to
// kHeads of its query heads.
#pragma once
#include "ops/decode_step/group_sums.cuh"
#include "ops/decode_step/step_place.cuh"

namespace tigon::cuda {

/// A pair (x_i, x_{i+D/2}) turned by position · frequency_i, an angle of float32 as in the op rope.
/// What is left of it after whole turns goes to the units for sine and cosine, which are within
/// 5e-7 there: the full functions would take most of the kernel's time.
struct Turn {
  float sine, cosine;

  __device__ Turn(float position, float frequency, float scale) {
    constexpr float kTurn = 6.2831855f, kTurnExcess = 1.7484555e-7f;  // 2π = kTurn − kTurnExcess
    const float angle = __fmul_rn(position, frequency);
    const float turns = rintf(angle * 0.15915494f);
    const float rest = fmaf(turns, kTurnExcess, fmaf(-turns, kTurn, angle));
    sine = __sinf(rest) * scale;
    cosine = __cosf(rest) * scale;
  }
  __device__ float first(float a, float b) const { return a * cosine - b * sine; }
  __device__ float second(float a, float b) const { return b * cosine + a * sine; }
};

/// Asks for the ring of the KV head ahead of its use: the softmax waits for one load, not for two.
template <typename T>
__device__ void prefetch_ring(const DecodeStepParams& p, const StepPlace& place, int kv_head) {
  constexpr int kLine = 128;  // bytes
  const int lines = (p.head_dim * static_cast<int>(sizeof(T)) + kLine - 1) / kLine;
  for (int i = static_cast<int>(threadIdx.x); i < 2 * place.rows * lines;
       i += static_cast<int>(blockDim.x)) {
    void* ring = i % 2 == 0 ? p.ring_keys : p.ring_values;
    const T* row = ring_row<T>(ring, p, place.slot, i / 2 / lines, kv_head);
    const char* line = reinterpret_cast<const char*>(row) + (i / 2 % lines) * kLine;
    asm volatile("prefetch.global.L2 [%0];" ::"l"(line));
  }
}

/// One warp: RoPE(q)/√D → queries [D]; zeros if there is no such head.
template <typename T>
__device__ void rotate_query(const DecodeStepParams& p, const StepPlace& place, const T* q,
                             bool exists, float* queries) {
  const int half = p.head_dim / 2;
  const float scale = p.rope_scale * rsqrtf(static_cast<float>(p.head_dim));
  for (int i = static_cast<int>(threadIdx.x % 32); i < half; i += 32) {
    float first = 0, second = 0;
    if (exists) {
      const Turn turn(static_cast<float>(place.position), p.inverse_frequencies[i], scale);
      const float a = to_float(q[i]), b = to_float(q[i + half]);
      first = turn.first(a, b);
      second = turn.second(a, b);
    }
    queries[i] = first;
    queries[i + half] = second;
  }
}

/// queries [kHeads, D] and RoPE(k) of the ring → scores [kHeads, W]. kLanes threads share a key: a
/// thread turns four numbers of its first half with the four of the second half.
template <typename T, int kHeads, int kLanes>
__device__ void score_ring(const DecodeStepParams& p, const StepPlace& place, int kv_head,
                           const float* queries, float* scores) {
  constexpr int kKeysOfWarp = 32 / kLanes;
  const int half = p.head_dim / 2;
  const int channel = static_cast<int>(threadIdx.x) % kLanes * 4;
  const bool has_channel = channel < half;
  float frequencies[4] = {};
  if (has_channel) {
    for (int j = 0; j < 4; ++j) frequencies[j] = p.inverse_frequencies[channel + j];
  }
  const T* own = token_head<T>(p.k, place.sequence, kv_head);
  const T* ring = ring_row<T>(p.ring_keys, p, place.slot, 0, kv_head);
  const int row_stride = p.kv_heads * p.head_dim;
  FourNumbers<T> lower_ahead = {}, upper_ahead = {};
  const auto load_key = [&](int row) {
    if (row >= place.rows || !has_channel) return;
    const T* key = row == place.newest_row ? own : ring + row * row_stride;
    lower_ahead.load(key + channel);
    upper_ahead.load(key + half + channel);
  };
  const int keys_of_block = static_cast<int>(blockDim.x) / kLanes;
  const int row_of_warp = static_cast<int>(threadIdx.x % 32) / kLanes;
  int first = static_cast<int>(threadIdx.x) / 32 * kKeysOfWarp;
  load_key(first + row_of_warp);
  for (; first < place.rows; first += keys_of_block) {
    const int row = first + row_of_warp;
    const bool is_key = row < place.rows;
    const float4 a = lower_ahead.widen(), b = upper_ahead.widen();
    load_key(row + keys_of_block);
    float sums[kHeads] = {};
    if (is_key && has_channel) {
      const float lower[4] = {a.x, a.y, a.z, a.w}, upper[4] = {b.x, b.y, b.z, b.w};
      float first_half[4], second_half[4];
      const auto position = static_cast<float>(place.position_of(row));
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const Turn turn(position, frequencies[j], p.rope_scale);
        first_half[j] = turn.first(lower[j], upper[j]);
        second_half[j] = turn.second(lower[j], upper[j]);
      }
#pragma unroll
      for (int g = 0; g < kHeads; ++g) {
        const float* q = queries + g * p.head_dim + channel;
        const float4 x = load_four(q), y = load_four(q + half);
        sums[g] = x.x * first_half[0] + x.y * first_half[1] + x.z * first_half[2] +
                  x.w * first_half[3] + y.x * second_half[0] + y.y * second_half[1] +
                  y.z * second_half[2] + y.w * second_half[3];
      }
    }
#pragma unroll
    for (int g = 0; g < kHeads; ++g) {
      const float score = sum_of_lanes<kLanes>(sums[g]);
      if (is_key && channel == 0) scores[g * p.window_keys + row] = score;
    }
  }
}

/// One warp: a head's scores become e^{score − largest}. → their sum; lse: its logarithm, with
/// `largest` put back.
__device__ inline float exponentials(float* scores, int rows, float* lse) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  float largest = -INFINITY;
  for (int row = lane; row < rows; row += 32) largest = fmaxf(largest, scores[row]);
  largest = max_of_lanes(largest);
  float sum = 0;
  for (int row = lane; row < rows; row += 32) {
    scores[row] = expf(scores[row] - largest);
    sum += scores[row];
  }
  sum = sum_of_lanes(sum);
  if (lane == 0) *lse = largest + logf(sum);
  return sum;
}

/// weights [kHeads, W] times the ring's values → out [kHeads, D].
template <typename T, int kHeads>
__device__ void weigh_values(const DecodeStepParams& p, const StepPlace& place, int kv_head,
                             const float* weights, float* partials, float* out) {
  const int quads = p.head_dim / 4, thread = static_cast<int>(threadIdx.x);
  const Groups groups{static_cast<int>(blockDim.x) / quads, thread / quads, thread % quads};
  const T* own = token_head<T>(p.v, place.sequence, kv_head);
  const T* ring = ring_row<T>(p.ring_values, p, place.slot, 0, kv_head);
  const int row_stride = p.kv_heads * p.head_dim;
  float sums[kHeads][4] = {};
  if (groups.is_in_one()) {
#pragma unroll 4
    for (int row = groups.own; row < place.rows; row += groups.count) {
      const T* values = row == place.newest_row ? own : ring + row * row_stride;
      const float4 v = load_four(values + 4 * groups.vector);
#pragma unroll
      for (int g = 0; g < kHeads; ++g) {
        const float weight = weights[g * p.window_keys + row];
        sums[g][0] += weight * v.x;
        sums[g][1] += weight * v.y;
        sums[g][2] += weight * v.z;
        sums[g][3] += weight * v.w;
      }
    }
  }
  sum_groups<kHeads>(sums, groups, p.head_dim, 1, partials, out);
}

/// The whole: queries [kHeads, D] as rotate_query leaves them → near [kHeads, D], lse [kHeads].
/// Uses scores [kHeads, W] and partials. All threads of the block, after a barrier; ends with one.
template <typename T, int kHeads>
__device__ void attend_ring(const DecodeStepParams& p, const StepPlace& place, int kv_head,
                            const float* queries, float* scores, float* partials, float* near,
                            float* lse) {
  if (p.head_dim <= 64) {
    score_ring<T, kHeads, 8>(p, place, kv_head, queries, scores);
  } else {
    score_ring<T, kHeads, 16>(p, place, kv_head, queries, scores);
  }
  __syncthreads();
  const int warps = static_cast<int>(blockDim.x) / 32, lane = static_cast<int>(threadIdx.x % 32);
  for (int g = static_cast<int>(threadIdx.x) / 32; g < kHeads; g += warps) {
    float* own = scores + g * p.window_keys;
    const float inverse = 1 / exponentials(own, place.rows, lse + g);
    for (int row = lane; row < place.rows; row += 32) own[row] *= inverse;
  }
  __syncthreads();
  weigh_values<T, kHeads>(p, place, kv_head, scores, partials, near);
}

/// The new key and value take their row of the ring.
template <typename T>
__device__ void write_ring(const DecodeStepParams& p, const StepPlace& place, int kv_head) {
  const T* k = token_head<T>(p.k, place.sequence, kv_head);
  const T* v = token_head<T>(p.v, place.sequence, kv_head);
  T* key = ring_row<T>(p.ring_keys, p, place.slot, place.newest_row, kv_head);
  T* value = ring_row<T>(p.ring_values, p, place.slot, place.newest_row, kv_head);
  for (int i = static_cast<int>(threadIdx.x); i < p.head_dim; i += static_cast<int>(blockDim.x)) {
    key[i] = k[i];
    value[i] = v[i];
  }
}

}  // namespace tigon::cuda
