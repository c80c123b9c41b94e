#include "ops/linear_cross_entropy/linear_cross_entropy.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <cmath>
#include <tuple>

#include "ops/checks.h"
#include "ops/linear_cross_entropy/linear_cross_entropy_call.h"

namespace tigon {
namespace {

void check_targets(const char* op, const at::Tensor& targets, int64_t tokens, int64_t vocabulary,
                   const at::Tensor& hidden) {
  check_dtype(op, "targets", targets, at::kLong);
  check_shape(op, "targets", targets, {tokens});
  check_device(op, "targets", targets, hidden);
  if (!targets.is_cpu()) return;
  const at::Tensor is_wrong =
      targets.ne(kIgnoredTarget).logical_and(targets.lt(0).logical_or(targets.ge(vocabulary)));
  if (!is_wrong.any().item<bool>()) return;
  const int64_t index = is_wrong.nonzero()[0].item<int64_t>();
  TORCH_CHECK(false, "[", op, "] targets: expected ids from 0 to ", vocabulary - 1, " (or ",
              kIgnoredTarget, "), found ", targets[index].item<int64_t>(), " at ", index);
}

void check_weight(const char* op, const char* name, double weight) {
  TORCH_CHECK(std::isfinite(weight) && weight >= 0, "[", op, "] ", name,
              ": expected a finite number >= 0, found ", weight);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> linear_cross_entropy_op(
    const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets,
    const std::optional<at::Tensor>& teacher_hidden, double target_weight, double teacher_weight) {
  const LinearCrossEntropyResult result = chunked_linear_cross_entropy(
      check_cross_entropy("linear_cross_entropy", hidden, head, targets, teacher_hidden,
                          target_weight, teacher_weight),
      plain_logits_step());
  return {result.loss, result.count, result.cross_entropy};
}

at::Tensor token_negative_log_likelihood_op(const at::Tensor& hidden, const at::Tensor& head,
                                            const at::Tensor& targets) {
  return chunked_negative_log_likelihood(
      check_cross_entropy("token_negative_log_likelihood", hidden, head, targets, {}, 1, 0),
      plain_logits_step());
}

}  // namespace

CrossEntropyCall check_cross_entropy(const char* op, const at::Tensor& hidden,
                                     const at::Tensor& head, const at::Tensor& targets,
                                     const std::optional<at::Tensor>& teacher_hidden,
                                     double target_weight, double teacher_weight) {
  check_floating(op, "hidden", hidden);
  check_shape(op, "hidden", hidden, {kAnySize, kAnySize});
  check_floating(op, "head", head);
  check_shape(op, "head", head, {kAnySize, hidden.size(1)});
  check_device(op, "head", head, hidden);
  TORCH_CHECK(head.size(0) > 0, "[", op, "] head: expected at least one row, found none");
  check_targets(op, targets, hidden.size(0), head.size(0), hidden);
  check_weight(op, "target_weight", target_weight);
  check_weight(op, "teacher_weight", teacher_weight);
  CrossEntropyCall call{hidden, head, targets, {}, target_weight, teacher_weight};
  if (teacher_hidden.has_value() && teacher_hidden->defined()) {
    check_dtype(op, "teacher_hidden", *teacher_hidden, hidden.scalar_type());
    check_shape(op, "teacher_hidden", *teacher_hidden, {hidden.size(0), hidden.size(1)});
    check_device(op, "teacher_hidden", *teacher_hidden, hidden);
    if (teacher_weight != 0) call.teacher_hidden = *teacher_hidden;
  } else {
    TORCH_CHECK(teacher_weight == 0, "[", op, "] teacher_hidden: expected with teacher_weight ",
                teacher_weight, ", found nothing");
  }
  return call;
}

LinearCrossEntropyResult linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& head,
                                              const at::Tensor& targets,
                                              const std::optional<at::Tensor>& teacher_hidden,
                                              double target_weight, double teacher_weight) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tigon::linear_cross_entropy", "")
                             .typed<decltype(linear_cross_entropy_op)>();
  const auto [loss, count, cross_entropy] =
      op.call(hidden, head, targets, teacher_hidden, target_weight, teacher_weight);
  return {loss, count, cross_entropy};
}

at::Tensor token_negative_log_likelihood(const at::Tensor& hidden, const at::Tensor& head,
                                         const at::Tensor& targets) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tigon::token_negative_log_likelihood", "")
                             .typed<decltype(token_negative_log_likelihood_op)>();
  return op.call(hidden, head, targets);
}

TORCH_LIBRARY_FRAGMENT(tigon, m) {
  m.def(
      "linear_cross_entropy(Tensor hidden, Tensor head, Tensor targets, "
      "Tensor? teacher_hidden=None, float target_weight=1, float teacher_weight=0) "
      "-> (Tensor loss, Tensor count, Tensor cross_entropy)");
  m.def("token_negative_log_likelihood(Tensor hidden, Tensor head, Tensor targets) -> Tensor");
}

TORCH_LIBRARY_IMPL(tigon, CompositeImplicitAutograd, m) {
  m.impl("linear_cross_entropy", linear_cross_entropy_op);
  m.impl("token_negative_log_likelihood", token_negative_log_likelihood_op);
}

}  // namespace tigon
