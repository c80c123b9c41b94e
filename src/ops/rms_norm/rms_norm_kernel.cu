// Computes  sum = x + residual in T (or x itself); r = 1/√(mean(sum²) + eps); out =
// T(sum·r)·weight.
//           Backward, with n = sum·r and g = dout·weight: dsum += r·(g − n·mean(g·n)); and
//           dweight = Σ over rows of dout·T(n), in slices of rows.
// Shapes    x, residual, sum, out and their gradients [N, M]; weight [M]; inverse_rms r [N]
// float32;
//           partial [slices, M] float32. T is float32, bfloat16 or float16.
// Grid      Forward and dx: one block of 256 threads for 256 / threads rows, threads as
// row_blocks()
//           says. dweight: (M / (32 vectors), slices), blocks of 32 × 8 threads.
// Tiles     A thread holds one 16-byte vector at a time. A row is walked twice, once for its sum
// and
//           once for the result; the second walk finds it in L1 (8 KiB for M = 4096 in bfloat16).
// Memory    128 bytes of shared memory (dweight: 8 KiB). Read per element: x and residual
// (forward),
//           x, dout and dsum (dx), x and dout (dweight); written: each result once.
// Saves     r and what was normalised; backward makes n again from both.
// Order     A thread's columns ascending, then a fixed tree over the row's threads; dweight's rows
//           ascending within a slice, then 8 sums in order. Deterministic.
#include "ops/rms_norm/rms_norm_params.h"
#include "ops/row_blocks.h"
#include "ops/vectors.cuh"

namespace tigon {
namespace {

constexpr int kWarpSize = 32;

// The sum over the threads of the caller's row (threadIdx.y), in each of them. Every thread of the
// block must call it, once in a kernel.
__device__ float sum_over_row(float value) {
  const int within_warp = min(static_cast<int>(blockDim.x), kWarpSize);
  for (int offset = within_warp / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, offset);
  }
  if (blockDim.x <= kWarpSize) return value;
  __shared__ float warp_sums[RowBlocks::kThreads / kWarpSize];
  const int warps_of_row = static_cast<int>(blockDim.x) / kWarpSize;
  const int first = static_cast<int>(threadIdx.y) * warps_of_row;
  if (threadIdx.x % kWarpSize == 0) warp_sums[first + threadIdx.x / kWarpSize] = value;
  __syncthreads();
  float total = 0;
  for (int warp = 0; warp < warps_of_row; ++warp) total += warp_sums[first + warp];
  return total;
}

template <typename T>
__device__ FloatVector<T> summed(const T* x, const T* residual) {
  FloatVector<T> sum = load_vector(x);
  if (residual == nullptr) return sum;
  const FloatVector<T> other = load_vector(residual);
#pragma unroll
  for (int i = 0; i < FloatVector<T>::kCount; ++i) sum[i] = rounded<T>(sum[i] + other[i]);
  return sum;
}

template <typename T>
__global__ void __launch_bounds__(RowBlocks::kThreads)
    rms_norm_fwd_kernel(const RmsNormFwdParams params) {
  constexpr int kCount = FloatVector<T>::kCount;
  const int64_t row = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  const bool is_row = row < params.rows;
  const int64_t begin = int64_t{threadIdx.x} * kCount, step = int64_t{blockDim.x} * kCount;
  const int64_t end = is_row ? params.size : 0;
  const T* x = static_cast<const T*>(params.x) + row * params.x_row_stride;
  const T* residual = params.residual == nullptr ? nullptr
                                                 : static_cast<const T*>(params.residual) +
                                                       row * params.residual_row_stride;
  float squares = 0;
  for (int64_t m = begin; m < end; m += step) {
    const FloatVector<T> sum = summed(x + m, residual == nullptr ? nullptr : residual + m);
#pragma unroll
    for (int i = 0; i < kCount; ++i) squares += sum[i] * sum[i];
  }
  squares = sum_over_row(squares);
  if (!is_row) return;
  const float inverse = rsqrtf(squares / static_cast<float>(params.size) + params.eps);
  if (params.inverse_rms != nullptr && threadIdx.x == 0) params.inverse_rms[row] = inverse;

  const T* weight = static_cast<const T*>(params.weight);
  T* out = static_cast<T*>(params.out) + row * params.size;
  for (int64_t m = begin; m < end; m += step) {
    FloatVector<T> values = summed(x + m, residual == nullptr ? nullptr : residual + m);
    if (residual != nullptr) {
      store_vector(static_cast<T*>(params.sum) + row * params.size + m, values);
    }
    const FloatVector<T> weights = load_vector(weight + m);
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] = rounded<T>(values[i] * inverse) * weights[i];
    store_vector(out + m, values);
  }
}

template <typename T>
__global__ void __launch_bounds__(RowBlocks::kThreads)
    rms_norm_bwd_kernel(const RmsNormBwdParams params) {
  constexpr int kCount = FloatVector<T>::kCount;
  const int64_t row = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  const bool is_row = row < params.rows;
  const int64_t begin = int64_t{threadIdx.x} * kCount, step = int64_t{blockDim.x} * kCount;
  const int64_t end = is_row ? params.size : 0;
  const float inverse = is_row ? params.inverse_rms[row] : 0;
  const T* x = static_cast<const T*>(params.x) + row * params.x_row_stride;
  const T* dout = static_cast<const T*>(params.dout) + row * params.dout_row_stride;
  const T* weight = static_cast<const T*>(params.weight);
  float projection = 0;  // Σ g·n
  for (int64_t m = begin; m < end; m += step) {
    const FloatVector<T> values = load_vector(x + m), upstream = load_vector(dout + m),
                         weights = load_vector(weight + m);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      projection += upstream[i] * weights[i] * (values[i] * inverse);
    }
  }
  projection = sum_over_row(projection);
  if (!is_row) return;
  const float mean = projection / static_cast<float>(params.size);

  T* dx = static_cast<T*>(params.dx) + row * params.size;
  for (int64_t m = begin; m < end; m += step) {
    FloatVector<T> values = load_vector(x + m);
    const FloatVector<T> upstream = load_vector(dout + m), weights = load_vector(weight + m);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      values[i] = inverse * (upstream[i] * weights[i] - values[i] * inverse * mean);
    }
    if (params.dsum != nullptr) {
      const FloatVector<T> dsum =
          load_vector(static_cast<const T*>(params.dsum) + row * params.dsum_row_stride + m);
#pragma unroll
      for (int i = 0; i < kCount; ++i) values[i] += dsum[i];
    }
    store_vector(dx + m, values);
  }
}

constexpr int kRowsAtOnce = 8;  // of a slice, one warp each

template <typename T>
__global__ void __launch_bounds__(kWarpSize* kRowsAtOnce)
    rms_norm_weight_gradient_kernel(const RmsNormWeightGradientParams params) {
  constexpr int kCount = FloatVector<T>::kCount, kColumns = kWarpSize * kCount;
  const int64_t column = (int64_t{blockIdx.x} * kWarpSize + threadIdx.x) * kCount;
  const int64_t slice = blockIdx.y;
  const int64_t end = params.rows * (slice + 1) / params.slices;
  FloatVector<T> sums = {};
  if (column < params.size) {
    for (int64_t row = params.rows * slice / params.slices + threadIdx.y; row < end;
         row += kRowsAtOnce) {
      const FloatVector<T> values =
          load_vector(static_cast<const T*>(params.x) + row * params.x_row_stride + column);
      const FloatVector<T> upstream =
          load_vector(static_cast<const T*>(params.dout) + row * params.dout_row_stride + column);
      const float inverse = params.inverse_rms[row];
#pragma unroll
      for (int i = 0; i < kCount; ++i) sums[i] += upstream[i] * rounded<T>(values[i] * inverse);
    }
  }
  __shared__ float of_rows[kRowsAtOnce][kColumns];
#pragma unroll
  for (int i = 0; i < kCount; ++i) of_rows[threadIdx.y][threadIdx.x * kCount + i] = sums[i];
  __syncthreads();
  const int thread = static_cast<int>(threadIdx.y) * kWarpSize + static_cast<int>(threadIdx.x);
  const int64_t first = int64_t{blockIdx.x} * kColumns;
  static_assert(kColumns <= kWarpSize * kRowsAtOnce, "one thread adds a column up");
  if (thread >= kColumns || first + thread >= params.size) return;
  float total = 0;
#pragma unroll
  for (int i = 0; i < kRowsAtOnce; ++i) total += of_rows[i][thread];
  params.partial[slice * params.size + first + thread] = total;
}

template <typename T, typename Params>
cudaError_t launch_on_rows(void (*kernel)(Params), const Params& params, cudaStream_t stream) {
  const RowBlocks rows = row_blocks(params.size / FloatVector<T>::kCount);
  const dim3 grid(static_cast<unsigned>(rows.blocks(params.rows)));
  kernel<<<grid, dim3(rows.threads, rows.rows), 0, stream>>>(params);
  return cudaGetLastError();
}

template <typename T>
cudaError_t launch_weight_gradient(const RmsNormWeightGradientParams& params, cudaStream_t stream) {
  constexpr int64_t kColumns = kWarpSize * FloatVector<T>::kCount;
  const dim3 grid(static_cast<unsigned>((params.size + kColumns - 1) / kColumns),
                  static_cast<unsigned>(params.slices));
  rms_norm_weight_gradient_kernel<T><<<grid, dim3(kWarpSize, kRowsAtOnce), 0, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_rms_norm_fwd(const RmsNormFwdParams& params, cudaStream_t stream) {
  return for_element_type(params.type, [&](auto zero) {
    using T = decltype(zero);
    return launch_on_rows<T>(rms_norm_fwd_kernel<T>, params, stream);
  });
}

cudaError_t launch_rms_norm_bwd(const RmsNormBwdParams& params, cudaStream_t stream) {
  return for_element_type(params.type, [&](auto zero) {
    using T = decltype(zero);
    return launch_on_rows<T>(rms_norm_bwd_kernel<T>, params, stream);
  });
}

cudaError_t launch_rms_norm_weight_gradient(const RmsNormWeightGradientParams& params,
                                            cudaStream_t stream) {
  return for_element_type(params.type, [&](auto zero) {
    using T = decltype(zero);
    return launch_weight_gradient<T>(params, stream);
  });
}

}  // namespace tigon
