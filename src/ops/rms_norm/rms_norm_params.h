// What the rms_norm kernels are called with. N rows of M numbers; M is a multiple of
// kVectorMultiple, every pointer and every row stride (in elements) one of 16 bytes, the last
// dimension dense.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "ops/element_type.h"

namespace tigon {

struct RmsNormFwdParams {
  ElementType type;
  int64_t rows, size;  // N, M
  const void* x;       // [N, M]
  int64_t x_row_stride;
  const void* residual;  // [N, M], added to x; null: no addition
  int64_t residual_row_stride;
  const void* weight;  // [M]
  float eps;
  void* sum;           // [N, M] contiguous, x + residual; null without a residual
  void* out;           // [N, M] contiguous
  float* inverse_rms;  // [N]; null: not wanted
};

struct RmsNormBwdParams {
  ElementType type;
  int64_t rows, size;
  const void* x;  // what was normalised
  int64_t x_row_stride;
  const void* weight;
  const float* inverse_rms;
  const void* dout;  // [N, M]
  int64_t dout_row_stride;
  const void* dsum;  // [N, M], gradient that x has from elsewhere; null: none
  int64_t dsum_row_stride;
  void* dx;  // [N, M] contiguous
};

struct RmsNormWeightGradientParams {
  ElementType type;
  int64_t rows, size;
  const void* x;
  int64_t x_row_stride;
  const float* inverse_rms;
  const void* dout;
  int64_t dout_row_stride;
  int64_t slices;  // runs of rows that are summed apart, from row_slices()
  float* partial;  // [slices, M] contiguous: their sum over slices is dweight
};

cudaError_t launch_rms_norm_fwd(const RmsNormFwdParams& params, cudaStream_t stream);
cudaError_t launch_rms_norm_bwd(const RmsNormBwdParams& params, cudaStream_t stream);
cudaError_t launch_rms_norm_weight_gradient(const RmsNormWeightGradientParams& params,
                                            cudaStream_t stream);

}  // namespace tigon
