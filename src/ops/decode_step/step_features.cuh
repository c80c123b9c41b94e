// Feature maps of one head, a warp each.
#pragma once
#include "ops/decode_step/step_place.cuh"
#include "ops/joint_attention/second_order_channels.cuh"

namespace tigon::cuda {

/// A lane's numbers of a head, `lane`, `lane + 32`, …
inline constexpr int kNumbersOfLane = kDecodeLargestHead / 32;

/// One warp: calls write(c, x_c, softmax(x)_c) for the D numbers of a head; with x and the softmax
/// 0 if there is no such head.
template <typename T, typename Write>
__device__ void softmax_of_head(const T* x, int D, bool exists, Write write) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  float numbers[kNumbersOfLane], powers[kNumbersOfLane];
  float largest = -INFINITY;
#pragma unroll
  for (int j = 0; j < kNumbersOfLane; ++j) {
    const int c = lane + 32 * j;
    numbers[j] = exists && c < D ? to_float(x[c]) : 0;
    if (c < D) largest = fmaxf(largest, numbers[j]);
  }
  largest = max_of_lanes(largest);
  float sum = 0;
#pragma unroll
  for (int j = 0; j < kNumbersOfLane; ++j) {
    powers[j] = lane + 32 * j < D ? expf(numbers[j] - largest) : 0;
    sum += powers[j];
  }
  const float inverse = exists ? 1 / sum_of_lanes(sum) : 0;
#pragma unroll
  for (int j = 0; j < kNumbersOfLane; ++j) {
    if (lane + 32 * j < D) write(lane + 32 * j, numbers[j], powers[j] * inverse);
  }
}

/// One warp: calls write(c, share) for the 2D numbers of softmax([z; −z]); 0 if there is no such
/// head.
template <typename Write>
__device__ void softmax_of_signs(const float* z, int D, bool exists, Write write) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  float numbers[kNumbersOfLane];
  float largest = 0;
#pragma unroll
  for (int j = 0; j < kNumbersOfLane; ++j) {
    const int c = lane + 32 * j;
    numbers[j] = exists && c < D ? z[c] : 0;
    largest = fmaxf(largest, fabsf(numbers[j]));
  }
  largest = max_of_lanes(largest);
  float sum = 0;
#pragma unroll
  for (int j = 0; j < kNumbersOfLane; ++j) {
    if (lane + 32 * j < D) sum += expf(numbers[j] - largest) + expf(-numbers[j] - largest);
  }
  const float inverse = exists ? 1 / sum_of_lanes(sum) : 0;
#pragma unroll
  for (int j = 0; j < kNumbersOfLane; ++j) {
    const int c = lane + 32 * j;
    if (c >= D) continue;
    write(c, expf(numbers[j] - largest) * inverse);
    write(D + c, expf(-numbers[j] - largest) * inverse);
  }
}

/// One warp: calls write(c, φ(z)_c) for the channels of features of second order of z [numbers]; 0
/// if there is no such head.
template <typename Write>
__device__ void second_order_features(const float* z, int numbers, int channels, bool exists,
                                      Write write) {
  const auto number = [&](int i) { return !exists ? 0 : i == 0 ? 1 : z[i - 1]; };
  for (int c = static_cast<int>(threadIdx.x % 32); c < channels; c += 32) {
    const SecondOrderChannel channel = second_order_channel(c, numbers);
    write(c, channel.factor * number(channel.left) * number(channel.right));
  }
}

}  // namespace tigon::cuda
