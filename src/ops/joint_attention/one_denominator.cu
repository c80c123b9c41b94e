// Computes  out = near + s (N/Z − near),  s = σ(log_mix + log Z − lse), near alone where Z < 1e−30;
//           joint_lse = log(e^lse + e^log_mix Z). Backward, with w = e^{log_mix − joint_lse}:
//           dN = w dout,  dZ = −w dout·out,  dlog_mix = w (dout·N − Z dout·out). What flows to the
//           window is FlashAttention's, from out and joint_lse.
// Shapes    near, out, dout [N, H, D] bf16; [N, Z] [N, H, D+1] float32 in rows of its own strides;
//           lse, joint_lse [H, N], log_mix [N, H] float32
// Grid      one warp for each head of each token, blocks of 8 warps
// Tiles     a lane works on every 32nd number of a head
// Memory    no shared memory; everything is read and written once
// Saves     joint_lse
// Order     float32, rounded once; sums in one order always
#include "ops/joint_attention/second_order_params.h"
#include "ops/lane_sums.cuh"
#include "ops/vectors.cuh"

namespace tigon::cuda {
namespace {

constexpr int kWarps = 8;
constexpr float kLeastMass = 1e-30f;  // as in under_one_denominator

/// What a warp works on.
struct Head {
  int64_t row, token, in_lse, in_far;
  int head;
  bool exists;

  __device__ explicit Head(const OneDenominatorParams& p)
      : row(int64_t{blockIdx.x} * kWarps + threadIdx.x / 32),
        token(row / p.heads),
        head(static_cast<int>(row % p.heads)),
        exists(row < p.tokens * p.heads) {
    in_lse = int64_t{head} * p.tokens + token;
    in_far = token * p.far_token_stride + head * p.far_head_stride;
  }
};

__global__ void __launch_bounds__(kWarps * 32)
    one_denominator_fwd_kernel(const OneDenominatorParams p) {
  const Head head(p);
  if (!head.exists) return;
  const int lane = static_cast<int>(threadIdx.x % 32), D = p.head_dim;
  const auto* near = static_cast<const __nv_bfloat16*>(p.near) + head.row * D;
  auto* out = static_cast<__nv_bfloat16*>(p.out) + head.row * D;
  const float* far = p.far + head.in_far;
  const float mass = far[D], lse = p.lse[head.in_lse];
  const bool has_far = mass > kLeastMass;
  const float log_far = has_far ? p.log_mix[head.row] + logf(mass) : 0;
  const float share = has_far ? 1 / (1 + expf(lse - log_far)) : 0;
  const float inverse_mass = has_far ? 1 / mass : 0;
  for (int i = lane; i < D; i += 32) {
    const float own = to_float(near[i]);
    out[i] = from_float<__nv_bfloat16>(own + share * (far[i] * inverse_mass - own));
  }
  if (lane == 0) {
    const float larger = fmaxf(lse, log_far), smaller = fminf(lse, log_far);
    p.joint_lse[head.in_lse] = has_far ? larger + log1pf(expf(smaller - larger)) : lse;
  }
}

__global__ void __launch_bounds__(kWarps * 32)
    one_denominator_bwd_kernel(const OneDenominatorParams p) {
  const Head head(p);
  if (!head.exists) return;
  const int lane = static_cast<int>(threadIdx.x % 32), D = p.head_dim;
  const auto* out = static_cast<const __nv_bfloat16*>(p.out) + head.row * D;
  const auto* upstream = static_cast<const __nv_bfloat16*>(p.out_gradient) + head.row * D;
  const float* far = p.far + head.in_far;
  float* far_gradient = p.far_gradient + head.row * (D + 1);
  const float mass = far[D];
  const bool has_far = mass > kLeastMass;
  const float weight = has_far ? expf(p.log_mix[head.row] - p.joint_lse[head.in_lse]) : 0;
  float with_out = 0, with_far = 0;
  for (int i = lane; i < D; i += 32) {
    const float gradient = to_float(upstream[i]);
    with_out += gradient * to_float(out[i]);
    with_far += gradient * far[i];
    far_gradient[i] = weight * gradient;
  }
  with_out = sum_of_lanes(with_out);
  with_far = sum_of_lanes(with_far);
  if (lane == 0) {
    far_gradient[D] = -weight * with_out;
    p.log_mix_gradient[head.row] = has_far ? weight * (with_far - mass * with_out) : 0;
  }
}

unsigned blocks_of(const OneDenominatorParams& p) {
  return static_cast<unsigned>((p.tokens * p.heads + kWarps - 1) / kWarps);
}

}  // namespace

cudaError_t launch_one_denominator_fwd(const OneDenominatorParams& p, cudaStream_t stream) {
  if (blocks_of(p) == 0) return cudaSuccess;
  one_denominator_fwd_kernel<<<blocks_of(p), kWarps * 32, 0, stream>>>(p);
  return cudaGetLastError();
}

cudaError_t launch_one_denominator_bwd(const OneDenominatorParams& p, cudaStream_t stream) {
  if (blocks_of(p) == 0) return cudaSuccess;
  one_denominator_bwd_kernel<<<blocks_of(p), kWarps * 32, 0, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace tigon::cuda
