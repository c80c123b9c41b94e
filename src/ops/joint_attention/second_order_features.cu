// Computes  features = m φ(z), φ(z) = [1; z; z_e z_f (e < f), z_e²/√2 (e = f)], m the importance.
//           Backward, with g = m dfeatures and u = [1, z]: dz_e = Σ_f g_ef u_f of all channels that
//           hold z_e (a square's twice), dm = Σ_c dfeatures_c φ_c
// Shapes    z, dz [N, H, R] float32 in rows of their own strides; features [N, H, P] bf16,
//           P ≥ (R+1)(R+2)/2 with zeros behind; m, dm [N, H] float32
// Grid      one warp for 8 rows, a row being a head of a token; blocks of 8 warps
// Tiles     a lane makes two neighbouring channels at a time, the same in each row: whose products
//           they are it finds once; backward, a lane sums up one number
// Memory    z and features are read or written once; 1 KiB of shared memory, backward 5 KiB
// Saves     nothing: backward makes the products again
// Order     float32, rounded once; sums in one order always
#include "ops/joint_attention/second_order_channels.cuh"
#include "ops/joint_attention/second_order_params.h"
#include "ops/lane_sums.cuh"
#include "ops/vectors.cuh"

namespace tigon::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kNumbers = kMostSecondOrderNumbers + 1;  // with the one in front
constexpr int kMostChannels = 128;
constexpr int kRowsOfWarp = 8;
constexpr int kPairsOfLane = kMostChannels / 64;

/// One of a warp's rows.
struct Row {
  int64_t row, z;
  bool exists;

  __device__ Row(const SecondOrderFeaturesParams& p, int of_warp)
      : row((int64_t{blockIdx.x} * kWarps + threadIdx.x / 32) * kRowsOfWarp + of_warp),
        exists(row < p.tokens * p.heads) {
    z = row / p.heads * p.token_stride + row % p.heads * p.head_stride;
  }
};

/// The channels that a lane makes: those of its pairs lane, lane + 32.
struct LaneChannels {
  SecondOrderChannel channels[kPairsOfLane][2];

  __device__ explicit LaneChannels(int numbers) {
#pragma unroll
    for (int i = 0; i < kPairsOfLane; ++i) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        channels[i][j] = second_order_channel(2 * (threadIdx.x % 32 + 32 * i) + j, numbers);
      }
    }
  }
};

/// The row's u = [1, z] in the warp's shared memory, which no lane reads any more.
__device__ void load_numbers(const SecondOrderFeaturesParams& p, const Row& row, float* numbers) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  __syncwarp();
  if (lane == 0) {
    numbers[0] = 1;
  } else if (lane <= p.numbers) {
    numbers[lane] = p.z[row.z + lane - 1];
  }
  __syncwarp();
}

__device__ float value_of(const SecondOrderChannel& c, const float* numbers) {
  return c.factor * numbers[c.left] * numbers[c.right];
}

__global__ void __launch_bounds__(kWarps * 32)
    second_order_features_fwd_kernel(const SecondOrderFeaturesParams p) {
  __shared__ float all_numbers[kWarps][kNumbers];
  float* const numbers = all_numbers[threadIdx.x / 32];
  const int lane = static_cast<int>(threadIdx.x % 32);
  const LaneChannels mine(p.numbers);
  for (int of_warp = 0; of_warp < kRowsOfWarp; ++of_warp) {
    const Row row(p, of_warp);
    if (!row.exists) return;
    load_numbers(p, row, numbers);
    const float importance = p.importance == nullptr ? 1 : p.importance[row.row];
    auto* features = static_cast<uint32_t*>(p.features) + row.row * (p.channels / 2);
#pragma unroll
    for (int i = 0; i < kPairsOfLane; ++i) {
      const int pair = lane + 32 * i;
      if (pair >= p.channels / 2) break;
      features[pair] = Conversion<__nv_bfloat16>::round_pair(
          importance * value_of(mine.channels[i][0], numbers),
          importance * value_of(mine.channels[i][1], numbers));
    }
  }
}

/// dz_lane / importance, of the scaled gradients of all channels.
__device__ float number_gradient(int lane, int R, const float* gradients, const float* numbers) {
  float sum = gradients[1 + lane];
  // Of the products with z_e, e ≤ lane, one in each row; then the lane's own row from its square
  // on, which holds z_lane twice.
  int row_start = 1 + R;
  for (int e = 0; e < lane; ++e) {
    sum += gradients[row_start + lane - e] * numbers[1 + e];
    row_start += R - e;
  }
  sum += gradients[row_start] * numbers[1 + lane];
  for (int f = lane; f < R; ++f) sum += gradients[row_start + f - lane] * numbers[1 + f];
  return sum;
}

__global__ void __launch_bounds__(kWarps * 32)
    second_order_features_bwd_kernel(const SecondOrderFeaturesParams p) {
  __shared__ float all_numbers[kWarps][kNumbers];
  __shared__ float all_gradients[kWarps][kMostChannels];
  float* const numbers = all_numbers[threadIdx.x / 32];
  float* const gradients = all_gradients[threadIdx.x / 32];
  const int lane = static_cast<int>(threadIdx.x % 32), R = p.numbers;
  const LaneChannels mine(R);
  for (int of_warp = 0; of_warp < kRowsOfWarp; ++of_warp) {
    const Row row(p, of_warp);
    if (!row.exists) return;
    load_numbers(p, row, numbers);
    const auto* upstream =
        static_cast<const uint32_t*>(p.features_gradient) + row.row * (p.channels / 2);
    float importance_gradient = 0;
#pragma unroll
    for (int i = 0; i < kPairsOfLane; ++i) {
      const int pair = lane + 32 * i;
      if (pair >= p.channels / 2) break;
      const float2 gradient = Conversion<__nv_bfloat16>::widen_pair(upstream[pair]);
      const float both[2] = {gradient.x, gradient.y};
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        importance_gradient += both[j] * value_of(mine.channels[i][j], numbers);
        gradients[2 * pair + j] = mine.channels[i][j].factor * both[j];
      }
    }
    __syncwarp();
    const float importance = p.importance == nullptr ? 1 : p.importance[row.row];
    if (lane < p.row) {
      const float sum = lane < R ? number_gradient(lane, R, gradients, numbers) : 0;
      p.z_gradient[row.z + lane] = importance * sum;
    }
    if (p.importance_gradient != nullptr) {
      importance_gradient = sum_of_lanes(importance_gradient);
      if (lane == 0) p.importance_gradient[row.row] = importance_gradient;
    }
  }
}

bool is_served(const SecondOrderFeaturesParams& p) {
  return p.numbers <= kMostSecondOrderNumbers && p.row <= 32 && p.channels <= kMostChannels &&
         p.channels % 2 == 0;
}

unsigned blocks_of(const SecondOrderFeaturesParams& p) {
  constexpr int kRowsOfBlock = kWarps * kRowsOfWarp;
  return static_cast<unsigned>((p.tokens * p.heads + kRowsOfBlock - 1) / kRowsOfBlock);
}

}  // namespace

cudaError_t launch_second_order_features_fwd(const SecondOrderFeaturesParams& p,
                                             cudaStream_t stream) {
  if (!is_served(p)) return cudaErrorInvalidValue;
  if (blocks_of(p) == 0) return cudaSuccess;
  second_order_features_fwd_kernel<<<blocks_of(p), kWarps * 32, 0, stream>>>(p);
  return cudaGetLastError();
}

cudaError_t launch_second_order_features_bwd(const SecondOrderFeaturesParams& p,
                                             cudaStream_t stream) {
  if (!is_served(p)) return cudaErrorInvalidValue;
  if (blocks_of(p) == 0) return cudaSuccess;
  second_order_features_bwd_kernel<<<blocks_of(p), kWarps * 32, 0, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace tigon::cuda
