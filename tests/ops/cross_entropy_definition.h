// Targets, and the loss in ATen, for the tests of linear_cross_entropy.
#pragma once
#include <ATen/ATen.h>

#include "ops/linear_cross_entropy/linear_cross_entropy.h"
#include "support/compare.h"

namespace tigon::testing {

// Every seventh target is ignored.
inline at::Tensor random_targets(int64_t N, int64_t V) {
  at::Tensor targets = (random_tensor({N}, 31).abs() * 1e6).to(at::kLong).remainder(V);
  targets.slice(0, 3, N, 7).fill_(kIgnoredTarget);
  return targets;
}

inline at::Tensor cross_entropy_definition(const at::Tensor& hidden, const at::Tensor& head,
                                           const at::Tensor& targets) {
  return at::cross_entropy_loss(at::linear(hidden, head), targets, {}, at::Reduction::Mean,
                                kIgnoredTarget);
}

}  // namespace tigon::testing
