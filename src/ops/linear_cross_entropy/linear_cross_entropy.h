// LM head and cross-entropy together, in chunks of tokens: no [N, vocabulary] tensor is ever alive.
#pragma once
#include <ATen/core/Tensor.h>

namespace tigon {

struct LinearCrossEntropyResult {
  at::Tensor loss;  // scalar float32 (float64 for float64 inputs): mean of −log p(target) over the
                    // counted targets, 0 if there are none
  at::Tensor count;  // scalar int64: targets that are not ignored
};

inline constexpr int64_t kIgnoredTarget = -100;

/// hidden [N, M], head [V, M], targets [N] int64 with kIgnoredTarget skipped; another target
/// outside [0, V) is an error (on a GPU, where looking at the targets would stall the queue, the
/// device assertion of the lookup reports it). Logits are computed in the dtype of hidden and
/// reduced in float32. Gradients: hidden, and head if it requires one (a frozen head pays for
/// none). The gradient is computed in the forward pass, chunk by chunk, and only scaled in the
/// backward pass; the head's is summed in float32.
LinearCrossEntropyResult linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& head,
                                              const at::Tensor& targets);

/// −log p(target) of every token, [N] float32, 0 where ignored. No gradient.
at::Tensor token_negative_log_likelihood(const at::Tensor& hidden, const at::Tensor& head,
                                         const at::Tensor& targets);

/// Tokens whose logits are alive at once: as many as fit 64 MiB of float32 logits, at least one, in
/// chunks as equal as possible.
int64_t cross_entropy_chunk_tokens(int64_t tokens, int64_t vocabulary);

}  // namespace tigon
