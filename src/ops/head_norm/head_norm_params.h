// What the head_norm kernels are called with: rows of D numbers, D a multiple of kVectorMultiple
// and at most a warp's worth of 16-byte pieces. Pointers are multiples of 16 bytes.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "ops/element_type.h"

namespace tigon {

/// Bytes of the longest row: one 16-byte piece a lane.
inline constexpr int64_t kMostHeadBytes = 512;

struct HeadNormParams {
  ElementType type;
  int64_t rows;  // N·H
  int size;      // D
  float eps;
  const void* x;     // [N·H, D] contiguous, as all of these
  const void* dout;  // backward
  void* out;         // out forward, dx backward
};

cudaError_t launch_head_norm_fwd(const HeadNormParams& params, cudaStream_t stream);
cudaError_t launch_head_norm_bwd(const HeadNormParams& params, cudaStream_t stream);

}  // namespace tigon
