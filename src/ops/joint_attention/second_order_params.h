// What the kernels of joint_attention with features of second order are called with: no Torch.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace tigon::cuda {

/// R at most: a warp has a lane for each number.
inline constexpr int kMostSecondOrderNumbers = 31;

struct SecondOrderFeaturesParams {
  int64_t tokens;           // N
  int heads;                // H
  int numbers;              // R
  int channels;             // P of `features`, even; beyond (R+1)(R+2)/2 zeros
  const float* z;           // [N, H, row], of which R count
  int64_t token_stride;     // of z and its gradient, elements
  int64_t head_stride;      // likewise
  int row;                  // numbers of a row of z and its gradient; beyond R the latter is 0
  const float* importance;  // [N, H], or null: 1
  void* features;           // [N, H, P] bf16: importance · φ(z)
  // Backward alone.
  const void* features_gradient;  // [N, H, P] bf16
  float* z_gradient;              // [N, H, row], strides of z
  float* importance_gradient;     // [N, H], or null
};

cudaError_t launch_second_order_features_fwd(const SecondOrderFeaturesParams& params,
                                             cudaStream_t stream);
cudaError_t launch_second_order_features_bwd(const SecondOrderFeaturesParams& params,
                                             cudaStream_t stream);

struct OneDenominatorParams {
  int64_t tokens;            // N
  int heads, head_dim;       // H, D
  const void* near;          // [N, H, D] bf16: the window's own output
  const float* lse;          // [H, N] of the window
  const float* far;          // [N, H, D+1]: N and Z
  int64_t far_token_stride;  // elements
  int64_t far_head_stride;
  const float* log_mix;  // [N, H]
  void* out;             // [N, H, D] bf16
  float* joint_lse;      // [H, N]: log(e^lse + e^log_mix Z)
  // Backward alone.
  const void* out_gradient;  // [N, H, D] bf16
  float* far_gradient;       // [N, H, D+1]
  float* log_mix_gradient;   // [N, H]
};

cudaError_t launch_one_denominator_fwd(const OneDenominatorParams& params, cudaStream_t stream);
/// From out and joint_lse; near and lse are not read.
cudaError_t launch_one_denominator_bwd(const OneDenominatorParams& params, cudaStream_t stream);

}  // namespace tigon::cuda
