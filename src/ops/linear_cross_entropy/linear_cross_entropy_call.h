// A call of linear_cross_entropy after its checks, and the loop over chunks that the plain
// definition and the GPU implementation share: they differ in what is done with a chunk's logits.
#pragma once
#include <optional>
#include <tuple>

#include "ops/linear_cross_entropy/linear_cross_entropy.h"

namespace tigon {

struct CrossEntropyCall {
  at::Tensor hidden, head, targets;
  at::Tensor teacher_hidden;  // undefined where teacher_weight is 0
  double target_weight = 1, teacher_weight = 0;
};

/// From the schema's arguments. Throws with name, expected and found for every one that does not
/// fit; `op` is the name that messages begin with.
CrossEntropyCall check_cross_entropy(const char* op, const at::Tensor& hidden,
                                     const at::Tensor& head, const at::Tensor& targets,
                                     const std::optional<at::Tensor>& teacher_hidden,
                                     double target_weight, double teacher_weight);

/// The logits of C tokens, and where their losses go.
struct LogitsChunk {
  at::Tensor logits;          // [C, V] of hidden's dtype; may be overwritten
  at::Tensor teacher_logits;  // the same of the teacher, or undefined
  at::Tensor targets;         // [C]
  at::Tensor nll;             // [C] wide: becomes −log p(target), 0 where ignored
  at::Tensor teacher_loss;  // [C] wide: becomes −Σ p_teacher log p, 0 where ignored; or undefined
  double target_weight = 1, teacher_weight = 0;
  bool needs_gradient = false;
};

/// How a chunk's logits become losses and their own gradient.
struct LogitsStep {
  /// → [C, V] of hidden's dtype, the gradient of the sum of weighted losses for the logits, a zero
  /// row where ignored:
  ///   (target_weight + teacher_weight) · p − target_weight · onehot − teacher_weight · p_teacher
  /// Undefined if it is not asked for.
  at::Tensor (*apply)(const LogitsChunk& chunk);
  int64_t bytes_per_logit;
  int64_t chunk_bytes;
};

/// In ATen, for any device; wide logits.
const LogitsStep& plain_logits_step();

/// The op, with its gradient.
LinearCrossEntropyResult chunked_linear_cross_entropy(const CrossEntropyCall& call,
                                                      const LogitsStep& step);
/// token_negative_log_likelihood.
at::Tensor chunked_negative_log_likelihood(const CrossEntropyCall& call, const LogitsStep& step);

}  // namespace tigon
