// The few keys that window_attention sees outside its window.
//
// Computes  forward: s_ij = scale · q_i · k_j of the sinks j outside query i's window,
//           lse' = log(exp(lse) + Σ_j exp(s_ij)), out' = exp(lse − lse') out + Σ_j P_ij v_j with
//           P_ij = exp(s_ij − lse')
//           backward: dS_ij = P_ij (do_i · v_j − do_i · out'_i + dlse'_i),
//           dq_i += scale Σ_j dS_ij k_j, dk_j += scale Σ_i dS_ij q_i, dv_j += Σ_i P_ij do_i
// Shapes    q, out [N, H, D], k, v [M, Hkv, D], lse [H, N]
// Grid      rows: (C, H) blocks of 8 warps; sums: (C, Hkv) blocks, four threads for each of D
// columns;
//           last: (S · sinks, Hkv) blocks of D threads
// Tiles     a chunk of 64 queries; a warp owns one row at a time
// Memory    the sinks' keys and values in shared memory, 8·sinks·D bytes; rows are read once
//           forward, and once more backward by the sums
// Saves     P and dS of the sinks between the backward kernels, 8·sinks bytes a row
// Order     every fourth token with its heads, the four, then chunks, each in order; deterministic
#include "ops/lane_sums.cuh"
#include "ops/matrix_tiles.cuh"
#include "ops/vectors.cuh"
#include "ops/window_attention/window_sinks_params.h"

namespace tigon::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRowThreads = 4;  // that share the rows of a column of the sums
constexpr int kMostPairs = 4;   // pairs of channels a lane holds: heads of up to 256
constexpr float kLog2E = 1.4426950408889634f;

__device__ float2 load_two(const float* pointer) {
  return *reinterpret_cast<const float2*>(pointer);
}
template <typename T>
__device__ float2 load_two(const T* pointer) {
  return Conversion<T>::widen_pair(*reinterpret_cast<const uint32_t*>(pointer));
}
__device__ void store_two(float* pointer, float2 pair) {
  *reinterpret_cast<float2*>(pointer) = pair;
}
template <typename T>
__device__ void store_two(T* pointer, float2 pair) {
  *reinterpret_cast<uint32_t*>(pointer) = Conversion<T>::round_pair(pair.x, pair.y);
}

/// A row of a head over a warp: lane l holds channels 2l + 64i and 2l + 64i + 1.
struct Row {
  float2 x[kMostPairs];

  template <typename T>
  __device__ Row(const T* source, int head_dim, int lane) {
#pragma unroll
    for (int i = 0; i < kMostPairs; ++i) {
      const int column = 2 * lane + 64 * i;
      x[i] = {0, 0};
      if (column < head_dim) x[i] = load_two(source + column);
    }
  }
  __device__ float dot(const Row& other) const {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kMostPairs; ++i) sum += x[i].x * other.x[i].x + x[i].y * other.x[i].y;
    return sum_of_lanes(sum);
  }
  __device__ void add(float factor, const Row& other) {
#pragma unroll
    for (int i = 0; i < kMostPairs; ++i) {
      x[i].x += factor * other.x[i].x;
      x[i].y += factor * other.x[i].y;
    }
  }
  __device__ void scale(float factor) {
#pragma unroll
    for (float2& pair : x) pair = {pair.x * factor, pair.y * factor};
  }
  template <typename T>
  __device__ void store(T* target, int head_dim, int lane) const {
#pragma unroll
    for (int i = 0; i < kMostPairs; ++i) {
      const int column = 2 * lane + 64 * i;
      if (column < head_dim) store_two(target + column, x[i]);
    }
  }
};

/// What a block knows of its chunk's segment.
struct SinkSegment {
  Chunk chunk;
  int64_t first_key;
  int keys;         // of the segment
  int first_place;  // of the chunk's first query among the segment's keys

  __device__ explicit SinkSegment(const WindowSinksParams& p) : chunk(p.chunks[blockIdx.x]) {
    const int s = chunk.segment;
    first_key = p.key_cu_seqlens[s];
    keys = p.key_cu_seqlens[s + 1] - p.key_cu_seqlens[s];
    first_place = keys - (p.cu_seqlens[s + 1] - chunk.first_token);
  }
  /// Sinks outside the window of the chunk's query `row`.
  __device__ int count(const WindowSinksParams& p, int row) const {
    return max(0, min(p.sinks, first_place + row - p.window_keys + 1));
  }
};

/// The sinks' keys and values as float32 in shared memory: [sinks, D] each.
template <typename T>
__device__ void load_sinks(float* keys, float* values, const WindowSinksParams& p,
                           const SinkSegment& segment, int kv_head) {
  const int D = p.head_dim;
  for (int item = threadIdx.x; item < min(p.sinks, segment.keys) * D; item += blockDim.x) {
    const int64_t at = ((segment.first_key + item / D) * p.kv_heads + kv_head) * D + item % D;
    keys[item] = to_float(static_cast<const T*>(p.k)[at]);
    values[item] = to_float(static_cast<const T*>(p.v)[at]);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) fwd_kernel(const WindowSinksParams p) {
  extern __shared__ float memory[];
  const int D = p.head_dim, head = blockIdx.y, lane = threadIdx.x % 32;
  float *keys = memory, *values = memory + p.sinks * D;
  const SinkSegment segment(p);
  if (segment.count(p, segment.chunk.length - 1) == 0) return;
  load_sinks<T>(keys, values, p, segment, head / (p.heads / p.kv_heads));
  __syncthreads();
  for (int row = threadIdx.x / 32; row < segment.chunk.length; row += kThreads / 32) {
    const int count = segment.count(p, row);
    if (count == 0) continue;
    const int64_t token = static_cast<int64_t>(segment.chunk.first_token) + row;
    const int64_t at = (token * p.heads + head) * D;
    const Row q(static_cast<const T*>(p.q) + at, D, lane);
    const float lse = p.lse[head * p.tokens + token];
    float scores[kMostSinks], largest = lse;
#pragma unroll
    for (int j = 0; j < kMostSinks; ++j) {
      scores[j] = -INFINITY;
      if (j < count) scores[j] = p.scale * q.dot(Row(keys + j * D, D, lane));
      largest = fmaxf(largest, scores[j]);
    }
    float sum = exp2_fast((lse - largest) * kLog2E);
#pragma unroll
    for (int j = 0; j < kMostSinks; ++j) sum += exp2_fast((scores[j] - largest) * kLog2E);
    const float joint = largest + logf(sum);
    T* target = static_cast<T*>(p.out) + at;
    Row out(target, D, lane);
    out.scale(exp2_fast((lse - joint) * kLog2E));
#pragma unroll
    for (int j = 0; j < kMostSinks; ++j) {
      if (j >= count) break;
      out.add(exp2_fast((scores[j] - joint) * kLog2E), Row(values + j * D, D, lane));
    }
    out.store(target, D, lane);
    if (lane == 0) p.lse[head * p.tokens + token] = joint;
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) bwd_rows_kernel(const WindowSinksParams p) {
  extern __shared__ float memory[];
  const int D = p.head_dim, head = blockIdx.y, lane = threadIdx.x % 32;
  float *keys = memory, *values = memory + p.sinks * D;
  const SinkSegment segment(p);
  load_sinks<T>(keys, values, p, segment, head / (p.heads / p.kv_heads));
  __syncthreads();
  for (int row = threadIdx.x / 32; row < segment.chunk.length; row += kThreads / 32) {
    const int count = segment.count(p, row);
    const int64_t token = static_cast<int64_t>(segment.chunk.first_token) + row;
    const int64_t index = token * p.heads + head, at = index * D;
    float* probabilities = p.probabilities + index * p.sinks;
    float* gradients = p.score_gradients + index * p.sinks;
    if (lane < p.sinks && lane >= count) probabilities[lane] = gradients[lane] = 0;
    if (count == 0) continue;
    const Row q(static_cast<const T*>(p.q) + at, D, lane);
    const Row upstream(static_cast<const T*>(p.out_gradient) + at, D, lane);
    const float lse = p.lse[head * p.tokens + token];
    float delta = upstream.dot(Row(static_cast<const T*>(p.out) + at, D, lane));
    if (p.lse_gradient) delta -= p.lse_gradient[index];
    T* target = static_cast<T*>(p.q_gradient) + at;
    Row q_gradient(target, D, lane);
    for (int j = 0; j < count; ++j) {
      const Row key(keys + j * D, D, lane);
      const float probability = exp2_fast((p.scale * q.dot(key) - lse) * kLog2E);
      const float dot = upstream.dot(Row(values + j * D, D, lane));
      const float gradient = p.scale * probability * (dot - delta);
      q_gradient.add(gradient, key);
      if (lane == 0) {
        probabilities[j] = probability;
        gradients[j] = gradient;
      }
    }
    q_gradient.store(target, D, lane);
  }
}

/// A chunk's part of dk and dv. A thread owns one column of every kRowThreads-th row.
template <typename T>
__global__ void bwd_sums_kernel(const WindowSinksParams p) {
  extern __shared__ float memory[];  // [sinks, kRowThreads, D]
  const int D = p.head_dim, kv_head = blockIdx.y, group = p.heads / p.kv_heads;
  const SinkSegment segment(p);
  const int column = threadIdx.x, length = segment.chunk.length;
  const int most = segment.count(p, length - 1);
  const int64_t first = (blockIdx.x * static_cast<int64_t>(p.kv_heads) + kv_head) * p.sinks;
  float key_sums[kMostSinks] = {}, value_sums[kMostSinks] = {};
  // From the first row with a sink outside its window.
  for (int row = max(0, p.window_keys - segment.first_place) + threadIdx.y; row < length;
       row += kRowThreads) {
    const int64_t token = static_cast<int64_t>(segment.chunk.first_token) + row;
    for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      const int64_t index = token * p.heads + head;
      const float q = to_float(static_cast<const T*>(p.q)[index * D + column]);
      const float upstream = to_float(static_cast<const T*>(p.out_gradient)[index * D + column]);
#pragma unroll
      for (int j = 0; j < kMostSinks; ++j) {
        if (j >= most) continue;
        key_sums[j] += p.score_gradients[index * p.sinks + j] * q;
        value_sums[j] += p.probabilities[index * p.sinks + j] * upstream;
      }
    }
  }
  const auto add_up = [&](const float(&sums)[kMostSinks], float* target) {
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kMostSinks; ++j) {
      if (j < p.sinks) memory[(j * kRowThreads + threadIdx.y) * D + column] = sums[j];
    }
    __syncthreads();
    for (int j = threadIdx.y; j < p.sinks; j += kRowThreads) {
      float sum = 0;
      for (int i = 0; i < kRowThreads; ++i) sum += memory[(j * kRowThreads + i) * D + column];
      target[(first + j) * D + column] = sum;
    }
  };
  add_up(key_sums, p.key_sums);
  add_up(value_sums, p.value_sums);
}

/// Adds the chunks' parts to dk and dv of the sinks.
template <typename T>
__global__ void bwd_last_kernel(const WindowSinksParams p) {
  const int s = blockIdx.x / p.sinks, sink = blockIdx.x % p.sinks, kv_head = blockIdx.y;
  const int D = p.head_dim, column = threadIdx.x;
  const int64_t first_key = p.key_cu_seqlens[s];
  if (sink >= p.key_cu_seqlens[s + 1] - first_key) return;
  float key_sum = 0, value_sum = 0;
  for (int chunk = p.chunk_offsets[s]; chunk < p.chunk_offsets[s + 1]; ++chunk) {
    const int64_t at =
        ((chunk * static_cast<int64_t>(p.kv_heads) + kv_head) * p.sinks + sink) * D + column;
    key_sum += p.key_sums[at];
    value_sum += p.value_sums[at];
  }
  const int64_t at = ((first_key + sink) * p.kv_heads + kv_head) * D + column;
  T *key = static_cast<T*>(p.k_gradient) + at, *value = static_cast<T*>(p.v_gradient) + at;
  *key = from_float<T>(to_float(*key) + key_sum);
  *value = from_float<T>(to_float(*value) + value_sum);
}

int shared_bytes(const WindowSinksParams& p) {
  return 2 * p.sinks * p.head_dim * static_cast<int>(sizeof(float));
}

}  // namespace

cudaError_t launch_window_sinks_fwd(const WindowSinksParams& params, cudaStream_t stream) {
  return for_element_type(params.type, [&](auto zero) {
    fwd_kernel<decltype(zero)>
        <<<dim3(params.chunk_count, params.heads), kThreads, shared_bytes(params), stream>>>(
            params);
    return cudaGetLastError();
  });
}

cudaError_t launch_window_sinks_bwd(const WindowSinksParams& params, cudaStream_t stream) {
  return for_element_type(params.type, [&](auto zero) {
    using T = decltype(zero);
    const int D = params.head_dim;
    bwd_rows_kernel<T>
        <<<dim3(params.chunk_count, params.heads), kThreads, shared_bytes(params), stream>>>(
            params);
    const int bytes = params.sinks * kRowThreads * D * static_cast<int>(sizeof(float));
    const cudaError_t error = cudaFuncSetAttribute(
        bwd_sums_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (error != cudaSuccess) return error;
    bwd_sums_kernel<T>
        <<<dim3(params.chunk_count, params.kv_heads), dim3(D, kRowThreads), bytes, stream>>>(
            params);
    bwd_last_kernel<T>
        <<<dim3(params.segments * params.sinks, params.kv_heads), D, 0, stream>>>(params);
    return cudaGetLastError();
  });
}

}  // namespace tigon::cuda
