// Computes  out = gate·σ(gate)·up. Backward: dgate = dout·up·σ·(1 + gate·(1 − σ)),
//           dup = dout·gate·σ, with σ = 1/(1 + exp(−gate)); float32 inside, rounded once.
// Shapes    gate, up, out, dout, dgate, dup [N, F], all but out with a row stride. T is float32,
//           bfloat16 or float16.
// Grid      (row blocks, pieces of a row): 256 threads, as many of them along a row as row_blocks()
//           says.
// Tiles     One 16-byte vector of each tensor a thread: nothing is used twice.
// Memory    No shared memory. Each element of each tensor is read or written once.
// Saves     gate and up; backward makes σ again.
// Order     No sums: deterministic.
#include "ops/row_blocks.h"
#include "ops/swiglu/swiglu_params.h"
#include "ops/vectors.cuh"

namespace tigon {
namespace {

// The first of the caller's elements: row, and column within it.
struct Place {
  int64_t row, column;
};

template <typename T>
__device__ Place place_of_thread() {
  return {int64_t{blockIdx.x} * blockDim.y + threadIdx.y,
          (int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * FloatVector<T>::kCount};
}

__device__ float sigmoid(float x) {
  return 1.0f / (1.0f + expf(-x));
}

template <typename T>
__global__ void __launch_bounds__(RowBlocks::kThreads)
    swiglu_fwd_kernel(const SwigluFwdParams params) {
  const Place at = place_of_thread<T>();
  if (at.row >= params.rows || at.column >= params.size) return;
  FloatVector<T> values =
      load_vector(static_cast<const T*>(params.gate) + at.row * params.gate_row_stride + at.column);
  const FloatVector<T> up =
      load_vector(static_cast<const T*>(params.up) + at.row * params.up_row_stride + at.column);
#pragma unroll
  for (int i = 0; i < FloatVector<T>::kCount; ++i) values[i] *= sigmoid(values[i]) * up[i];
  store_vector(static_cast<T*>(params.out) + at.row * params.size + at.column, values);
}

template <typename T>
__global__ void __launch_bounds__(RowBlocks::kThreads)
    swiglu_bwd_kernel(const SwigluBwdParams params) {
  const Place at = place_of_thread<T>();
  if (at.row >= params.rows || at.column >= params.size) return;
  const FloatVector<T> gate =
      load_vector(static_cast<const T*>(params.gate) + at.row * params.gate_row_stride + at.column);
  const FloatVector<T> up =
      load_vector(static_cast<const T*>(params.up) + at.row * params.up_row_stride + at.column);
  const FloatVector<T> dout =
      load_vector(static_cast<const T*>(params.dout) + at.row * params.dout_row_stride + at.column);
  FloatVector<T> dgate, dup;
#pragma unroll
  for (int i = 0; i < FloatVector<T>::kCount; ++i) {
    const float share = sigmoid(gate[i]);
    dup[i] = dout[i] * gate[i] * share;
    dgate[i] = dout[i] * up[i] * share * (1.0f + gate[i] * (1.0f - share));
  }
  if (params.dgate != nullptr) {
    store_vector(static_cast<T*>(params.dgate) + at.row * params.dgate_row_stride + at.column,
                 dgate);
  }
  if (params.dup != nullptr) {
    store_vector(static_cast<T*>(params.dup) + at.row * params.dup_row_stride + at.column, dup);
  }
}

template <typename T, typename Params>
cudaError_t launch_on_rows(void (*kernel)(Params), const Params& params, cudaStream_t stream) {
  const int64_t vectors = params.size / FloatVector<T>::kCount;
  const RowBlocks rows = row_blocks(vectors);
  const dim3 grid(static_cast<unsigned>(rows.blocks(params.rows)),
                  static_cast<unsigned>((vectors + rows.threads - 1) / rows.threads));
  kernel<<<grid, dim3(rows.threads, rows.rows), 0, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_swiglu_fwd(const SwigluFwdParams& params, cudaStream_t stream) {
  return for_element_type(params.type, [&](auto zero) {
    using T = decltype(zero);
    return launch_on_rows<T>(swiglu_fwd_kernel<T>, params, stream);
  });
}

cudaError_t launch_swiglu_bwd(const SwigluBwdParams& params, cudaStream_t stream) {
  return for_element_type(params.type, [&](auto zero) {
    using T = decltype(zero);
    return launch_on_rows<T>(swiglu_bwd_kernel<T>, params, stream);
  });
}

}  // namespace tigon
