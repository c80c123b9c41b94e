// Which two numbers each channel of features of second order is the product of.
#pragma once
#include <cuda_runtime_api.h>

namespace tigon::cuda {

/// φ_c = factor · u_left · u_right of u = [1, z].
struct SecondOrderChannel {
  int left, right;
  float factor;
};

/// Of φ(z) = [1; z; z_e z_f (e ≤ f), row after row], z of `numbers` numbers: the order of
/// joint_feature_map. factor is 0 beyond the last channel.
__device__ inline SecondOrderChannel second_order_channel(int channel, int numbers) {
  if (channel <= numbers) return {0, channel, 1};
  int column = channel - numbers - 1, row = 0;
  for (; row < numbers && column >= numbers - row; ++row) column -= numbers - row;
  if (row == numbers) return {0, 0, 0};
  return {1 + row, 1 + row + column, column == 0 ? 0.70710678f : 1.0f};
}

}  // namespace tigon::cuda
