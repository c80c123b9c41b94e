// Computes  m = mean(x), r = 1/√(mean((x − m)²) + eps), out = T((x − m)·r). Backward, with
//           n = (x − m)·r and g = dout: dx = r·(g − mean(g) − n·mean(g·n))
// Shapes    x, out, dout, dx [N·H, D]; T is float32, bfloat16 or float16
// Grid      one block of 256 threads for 256 / threads rows, threads as row_blocks() says
// Tiles     a thread holds one 16-byte vector of a row; a row lies within a warp
// Memory    no shared memory; x (and dout) are read once, the result is written once
// Saves     nothing: backward makes mean and r again
// Order     a fixed tree over the row's threads. Deterministic.
#include "ops/head_norm/head_norm_params.h"
#include "ops/row_blocks.h"
#include "ops/vectors.cuh"

namespace tigon {
namespace {

/// Over the threads of a row, in each of them.
__device__ float sum_over_row(float value) {
  for (unsigned offset = blockDim.x / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, static_cast<int>(offset));
  }
  return value;
}

template <typename T>
__device__ float sum_of(const FloatVector<T>& vector) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < FloatVector<T>::kCount; ++i) sum += vector[i];
  return sum_over_row(sum);
}

template <typename T>
__device__ float dot_of(const FloatVector<T>& a, const FloatVector<T>& b) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < FloatVector<T>::kCount; ++i) sum += a[i] * b[i];
  return sum_over_row(sum);
}

/// The vector of its row that a thread works on. Threads without one hold zeros.
template <typename T>
struct Place {
  static constexpr int kCount = FloatVector<T>::kCount;
  int64_t element;
  float inverse_size;
  bool exists;

  __device__ explicit Place(const HeadNormParams& p)
      : inverse_size(1.0f / static_cast<float>(p.size)) {
    const int64_t row = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
    const int column = static_cast<int>(threadIdx.x) * kCount;
    exists = row < p.rows && column < p.size;
    element = row * p.size + column;
  }
  __device__ FloatVector<T> load(const void* tensor) const {
    if (!exists) return {};
    return load_vector(static_cast<const T*>(tensor) + element);
  }
  /// x − m in place; returns r.
  __device__ float normalise(FloatVector<T>& x, float eps) const {
    const float mean = sum_of(x) * inverse_size;
#pragma unroll
    for (int i = 0; i < kCount; ++i) x[i] = exists ? x[i] - mean : 0.0f;
    return rsqrtf(dot_of(x, x) * inverse_size + eps);
  }
  __device__ void store(void* tensor, const FloatVector<T>& vector) const {
    if (exists) store_vector(static_cast<T*>(tensor) + element, vector);
  }
};

template <typename T>
__global__ void __launch_bounds__(RowBlocks::kThreads) head_norm_fwd_kernel(HeadNormParams p) {
  const Place<T> place(p);
  FloatVector<T> x = place.load(p.x);
  const float inverse = place.normalise(x, p.eps);
#pragma unroll
  for (int i = 0; i < Place<T>::kCount; ++i) x[i] *= inverse;
  place.store(p.out, x);
}

template <typename T>
__global__ void __launch_bounds__(RowBlocks::kThreads) head_norm_bwd_kernel(HeadNormParams p) {
  const Place<T> place(p);
  FloatVector<T> x = place.load(p.x);
  const FloatVector<T> upstream = place.load(p.dout);
  const float inverse = place.normalise(x, p.eps);
  const float mean = sum_of(upstream) * place.inverse_size;
  const float projection = dot_of(upstream, x) * inverse * place.inverse_size;
#pragma unroll
  for (int i = 0; i < Place<T>::kCount; ++i) {
    x[i] = inverse * (upstream[i] - mean - x[i] * inverse * projection);
  }
  place.store(p.out, x);
}

template <typename T>
cudaError_t launch_on_rows(void (*kernel)(HeadNormParams), const HeadNormParams& params,
                           cudaStream_t stream) {
  const RowBlocks rows = row_blocks(params.size / FloatVector<T>::kCount);
  kernel<<<static_cast<unsigned>(rows.blocks(params.rows)), dim3(rows.threads, rows.rows), 0,
           stream>>>(params);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_head_norm_fwd(const HeadNormParams& params, cudaStream_t stream) {
  return for_element_type(params.type, [&](auto zero) {
    using T = decltype(zero);
    return launch_on_rows<T>(head_norm_fwd_kernel<T>, params, stream);
  });
}

cudaError_t launch_head_norm_bwd(const HeadNormParams& params, cudaStream_t stream) {
  return for_element_type(params.type, [&](auto zero) {
    using T = decltype(zero);
    return launch_on_rows<T>(head_norm_bwd_kernel<T>, params, stream);
  });
}

}  // namespace tigon
