// Choosing a kernel by head size, and asking for its shared memory.
#pragma once
#include <cuda_runtime_api.h>

#include <type_traits>

namespace tigon::cuda {

/// Calls `launch` with an integral constant D for the head sizes that have kernels.
template <typename Launch>
cudaError_t with_head_dim(int head_dim, Launch launch) {
  switch (head_dim) {
    case 64:
      return launch(std::integral_constant<int, 64>());
    case 96:
      return launch(std::integral_constant<int, 96>());
    case 128:
      return launch(std::integral_constant<int, 128>());
    default:
      return cudaErrorInvalidValue;
  }
}

/// Launches a kernel over its parameters that needs `bytes` of shared memory.
template <typename Kernel, typename Params>
cudaError_t launch_with_shared_memory(Kernel kernel, dim3 grid, int threads, int bytes,
                                      const Params& params, cudaStream_t stream) {
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  kernel<<<grid, threads, bytes, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace tigon::cuda
