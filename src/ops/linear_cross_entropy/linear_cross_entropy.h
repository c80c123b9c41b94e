// LM head and cross-entropy together, in chunks of tokens: no [N, vocabulary] tensor is ever alive.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>

namespace tigon {

struct LinearCrossEntropyResult {
  at::Tensor loss;  // scalar float32 (float64 for float64 inputs): the mixture, 0 if nothing counts
  at::Tensor count;          // scalar int64: targets that are not ignored
  at::Tensor cross_entropy;  // scalar of loss's dtype: mean of −log p(target) over the counted
                             // targets, without its weight; no gradient
};

inline constexpr int64_t kIgnoredTarget = -100;

/// hidden [N, M], head [V, M], targets [N] int64 with kIgnoredTarget skipped; another target
/// outside [0, V) is an error (on a GPU, where looking at the targets would stall the queue, the
/// kernel ends with an error, or the lookup's device assertion reports it).
///
/// With p = softmax(hidden headᵀ) and p_teacher = softmax(teacher_hidden headᵀ),
///     loss = mean over the counted targets of
///            target_weight · −log p(target) + teacher_weight · −Σ p_teacher log p.
/// teacher_hidden [N, M] is of hidden's dtype; it is needed where teacher_weight is not 0, and gets
/// no gradient, nor does the head through it. Weights are finite and not negative.
///
/// Logits are computed in the dtype of hidden and reduced in float32. Gradients: hidden, and head
/// if it requires one (a frozen head pays for none). The gradient is computed in the forward pass,
/// chunk by chunk, and only scaled in the backward pass; the head's is summed in float32.
LinearCrossEntropyResult linear_cross_entropy(
    const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets,
    const std::optional<at::Tensor>& teacher_hidden = std::nullopt, double target_weight = 1,
    double teacher_weight = 0);

/// −log p(target) of every token, [N] float32, 0 where ignored. No gradient.
at::Tensor token_negative_log_likelihood(const at::Tensor& hidden, const at::Tensor& head,
                                         const at::Tensor& targets);

/// Memory for the logits of a chunk: of the plain definition, whose logits are float32, and of the
/// GPU kernel, which works in place on logits of hidden's dtype. At 256 MiB a chunk of a 128,256
/// vocabulary has 1046 tokens in bfloat16: enough rows to fill a GPU in the product that gives
/// dhidden (1024 × 2048 numbers are only 64 tiles of 128 × 256), which smaller chunks do not.
inline constexpr int64_t kPlainLogitBytes = int64_t{64} << 20;
inline constexpr int64_t kKernelLogitBytes = int64_t{256} << 20;

/// Tokens whose logits are alive at once: as many as fit `bytes` where a logit takes
/// `bytes_per_logit`, at least one, in chunks as equal as possible. With a teacher each logit
/// counts twice.
int64_t cross_entropy_chunk_tokens(int64_t tokens, int64_t vocabulary, int64_t bytes_per_logit = 4,
                                   int64_t bytes = kPlainLogitBytes);

}  // namespace tigon
