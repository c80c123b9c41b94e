// What the swiglu kernels are called with. N rows of F numbers; F is a multiple of kVectorMultiple,
// every pointer and every row stride (in elements) one of 16 bytes, the last dimension dense. gate
// and up may be the two halves of one [N, 2F] tensor; so may dgate and dup.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "ops/element_type.h"

namespace tigon {

struct SwigluFwdParams {
  ElementType type;
  int64_t rows, size;  // N, F
  const void* gate;    // [N, F]
  int64_t gate_row_stride;
  const void* up;  // [N, F]
  int64_t up_row_stride;
  void* out;  // [N, F] contiguous
};

struct SwigluBwdParams {
  ElementType type;
  int64_t rows, size;
  const void* gate;
  int64_t gate_row_stride;
  const void* up;
  int64_t up_row_stride;
  const void* dout;  // [N, F]
  int64_t dout_row_stride;
  void* dgate;  // [N, F]; null: not wanted
  int64_t dgate_row_stride;
  void* dup;  // [N, F]; null: not wanted
  int64_t dup_row_stride;
};

cudaError_t launch_swiglu_fwd(const SwigluFwdParams& params, cudaStream_t stream);
cudaError_t launch_swiglu_bwd(const SwigluBwdParams& params, cudaStream_t stream);

}  // namespace tigon
