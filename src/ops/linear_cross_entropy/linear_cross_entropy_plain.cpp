#include <ATen/ops/amax.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/log.h>
#include <ATen/ops/sum.h>

#include "ops/checks.h"
#include "ops/linear_cross_entropy/linear_cross_entropy_call.h"

namespace tigon {
namespace {

// Logits, their softmax and their gradient are one buffer of [C, V], and the teacher's
// probabilities another.
at::Tensor apply_plain(const LogitsChunk& chunk) {
  const at::ScalarType type = chunk.logits.scalar_type(), wide = accumulation_type(type);
  const at::Tensor ignored = chunk.targets.eq(kIgnoredTarget).unsqueeze(1);      // [C, 1]
  const at::Tensor counted = ignored.logical_not().to(wide);                     // [C, 1]
  const at::Tensor target = chunk.targets.unsqueeze(1).masked_fill(ignored, 0);  // [C, 1]
  at::Tensor logits = chunk.logits.to(wide);                                     // [C, V]
  logits.sub_(at::amax(logits, 1, /*keepdim=*/true));
  const at::Tensor target_logit = logits.gather(1, target);  // [C, 1]
  at::Tensor teacher, teacher_mean;                          // [C, V], Σ p_teacher · logit [C, 1]
  if (chunk.teacher_logits.defined()) {
    teacher = chunk.teacher_logits.to(wide);
    teacher.sub_(at::amax(teacher, 1, /*keepdim=*/true)).exp_();
    teacher.div_(at::sum(teacher, 1, /*keepdim=*/true));
    teacher_mean = at::bmm(teacher.unsqueeze(1), logits.unsqueeze(2)).squeeze(2);
  }
  logits.exp_();
  const at::Tensor denominator = at::sum(logits, 1, /*keepdim=*/true);  // [C, 1]
  const at::Tensor log_denominator = at::log(denominator);
  chunk.nll.copy_((log_denominator - target_logit).masked_fill(ignored, 0).squeeze(1));
  if (teacher.defined()) {
    chunk.teacher_loss.copy_((log_denominator - teacher_mean).masked_fill(ignored, 0).squeeze(1));
  }
  if (!chunk.needs_gradient) return {};

  logits.mul_(counted * (chunk.target_weight + chunk.teacher_weight) / denominator);
  logits.scatter_add_(1, target, counted * -chunk.target_weight);
  if (teacher.defined()) logits.sub_(teacher.mul_(counted * chunk.teacher_weight));
  return logits.to(type);
}

}  // namespace

const LogitsStep& plain_logits_step() {
  static constexpr LogitsStep kStep{apply_plain, sizeof(float), kPlainLogitBytes};
  return kStep;
}

}  // namespace tigon
