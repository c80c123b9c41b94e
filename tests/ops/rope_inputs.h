// Positions and frequencies for tests of ops that rotate their queries and keys themselves.
#pragma once
#include <ATen/ATen.h>

#include <vector>

#include "ops/segments.h"
#include "support/compare.h"

namespace tigon::testing {

/// theta^(−2i/D), [D/2] float32.
inline at::Tensor inverse_frequencies(int64_t D, double theta = 10000) {
  const auto options = at::TensorOptions(test_device()).dtype(at::kDouble);
  return at::pow(theta, -at::arange(0, D, 2, options) / D).to(at::kFloat);
}

/// 0, 1, 2, … in each segment: [N] int64.
inline at::Tensor positions(const Segments& segments) {
  std::vector<at::Tensor> parts;
  for (const int64_t length : segments.lengths) {
    parts.push_back(at::arange(length, at::TensorOptions(test_device()).dtype(at::kLong)));
  }
  return at::cat(parts);
}

}  // namespace tigon::testing
