// Sums and maxima over the lanes of a warp, in each of them and in one order always.
#pragma once
#include <cuda_runtime_api.h>

namespace tigon::cuda {

/// Over groups of kLanes neighbouring lanes.
template <int kLanes = 32>
__device__ float sum_of_lanes(float x) {
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) x += __shfl_xor_sync(~0u, x, step);
  return x;
}

__device__ inline float max_of_lanes(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, step));
  return x;
}

}  // namespace tigon::cuda
