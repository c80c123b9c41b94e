// Choosing the next token from logits.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "core/random.h"

namespace tigon {

struct SamplingOptions {
  double temperature = 0;  // 0: greedy
  int64_t top_k = 0;       // keep the k likeliest tokens; 0: off
  double top_p = 1;  // keep the likeliest tokens until they hold this much probability; 1: off
};

/// Throws UsageError unless temperature ≥ 0, top_k ≥ 0 and 0 < top_p ≤ 1.
void check_sampling_options(const SamplingOptions& options);

/// logits [S, V] float32 → [S] int64 ids on the same device; −1 where the logits are not finite.
/// top_k is applied first, then top_p to what it kept. With a temperature, sequence i draws exactly
/// one uniform number from randoms[i], so that its text does not depend on what it is batched with.
at::Tensor sample(const at::Tensor& logits, const SamplingOptions& options,
                  std::vector<Random>& randoms);

}  // namespace tigon
