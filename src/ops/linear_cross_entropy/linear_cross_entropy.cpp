#include "ops/linear_cross_entropy/linear_cross_entropy.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/log.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>

#include "ops/checks.h"

namespace tigon {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// N tokens, M hidden size, V vocabulary, C tokens of a chunk.
struct ChunkedLoss {
  at::Tensor nll;  // [N] −log p(target), 0 where ignored
  at::Tensor
      dhidden;  // [N, M] gradient of the sum over nll, dtype of hidden; undefined if not asked for
  at::Tensor dhead;  // [V, M] the same for the head, float32; undefined if not asked for
};

// Logits, their softmax and the gradient of the logits are one buffer of [C, V].
ChunkedLoss chunked_loss(const at::Tensor& hidden, const at::Tensor& head,
                         const at::Tensor& targets, bool hidden_needs_gradient,
                         bool head_needs_gradient) {
  const int64_t N = hidden.size(0), V = head.size(0);
  const at::ScalarType type = hidden.scalar_type(), wide = accumulation_type(type);
  const at::Tensor weight = head.to(type);
  const at::Tensor is_counted = targets.ne(kIgnoredTarget);
  const at::Tensor safe_targets = targets.masked_fill(is_counted.logical_not(), 0);

  ChunkedLoss result;
  result.nll = at::empty({N}, hidden.options().dtype(wide));
  if (hidden_needs_gradient) result.dhidden = at::empty(hidden.sizes(), hidden.options());
  if (head_needs_gradient) result.dhead = at::zeros(head.sizes(), head.options().dtype(wide));

  const int64_t chunk = cross_entropy_chunk_tokens(N, V);
  for (int64_t start = 0; start < N; start += chunk) {
    const int64_t C = std::min(chunk, N - start);
    const at::Tensor rows = hidden.narrow(0, start, C);                       // [C, M]
    const at::Tensor counted = is_counted.narrow(0, start, C).unsqueeze(1);   // [C, 1]
    const at::Tensor target = safe_targets.narrow(0, start, C).unsqueeze(1);  // [C, 1]
    at::Tensor logits = at::linear(rows, weight).to(wide);                    // [C, V]
    const at::Tensor largest = at::amax(logits, 1, /*keepdim=*/true);         // [C, 1]
    logits.sub_(largest);
    const at::Tensor target_logit = logits.gather(1, target);  // [C, 1]
    logits.exp_();
    const at::Tensor denominator = at::sum(logits, 1, /*keepdim=*/true);  // [C, 1]
    result.nll.narrow(0, start, C)
        .copy_(
            (at::log(denominator) - target_logit).masked_fill(counted.logical_not(), 0).squeeze(1));
    if (!hidden_needs_gradient && !head_needs_gradient) continue;

    // d nll / d logits = softmax − onehot(target), a zero row where ignored.
    logits.mul_(counted.to(wide) / denominator);
    logits.scatter_add_(1, target, counted.to(wide).neg());
    const at::Tensor dlogits = logits.to(type);
    if (hidden_needs_gradient) result.dhidden.narrow(0, start, C).copy_(at::mm(dlogits, weight));
    if (head_needs_gradient) result.dhead.add_(at::mm(dlogits.t(), rows));
  }
  return result;
}

struct Mean {
  at::Tensor loss;           // scalar
  at::Tensor count;          // scalar int64
  at::Tensor inverse_count;  // scalar, float64; 1 where nothing counts
};

Mean mean_over_counted(const at::Tensor& nll, const at::Tensor& targets) {
  Mean mean;
  mean.count = targets.ne(kIgnoredTarget).sum();
  mean.inverse_count = mean.count.clamp_min(1).to(at::kDouble).reciprocal();
  mean.loss = (at::sum(nll, at::kDouble) * mean.inverse_count).to(nll.scalar_type());
  return mean;
}

class LinearCrossEntropy : public torch::autograd::Function<LinearCrossEntropy> {
 public:
  static variable_list forward(AutogradContext* ctx, const at::Tensor& hidden,
                               const at::Tensor& head, const at::Tensor& targets,
                               bool hidden_needs_gradient, bool head_needs_gradient) {
    const ChunkedLoss sums =
        chunked_loss(hidden, head, targets, hidden_needs_gradient, head_needs_gradient);
    const Mean mean = mean_over_counted(sums.nll, targets);
    ctx->save_for_backward({sums.dhidden, sums.dhead, mean.inverse_count});
    ctx->saved_data["head_type"] = head.scalar_type();
    ctx->mark_non_differentiable({mean.count});
    return {mean.loss, mean.count};
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    refuse_double_backward("linear_cross_entropy");
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &dhidden = saved[0], &dhead = saved[1], &inverse_count = saved[2];
    // In the wide type: a factor rounded to bfloat16 would bias the whole gradient.
    const at::Tensor factor = gradients[0] * inverse_count.to(gradients[0].scalar_type());
    const auto scaled = [&](const at::Tensor& sum, at::ScalarType type) {
      return (sum.to(factor.scalar_type()) * factor).to(type);
    };
    variable_list result(5);  // one for each argument of forward
    if (dhidden.defined()) result[0] = scaled(dhidden, dhidden.scalar_type());
    if (dhead.defined()) result[1] = scaled(dhead, ctx->saved_data["head_type"].toScalarType());
    return result;
  }
};

void check_arguments(const char* op, const at::Tensor& hidden, const at::Tensor& head,
                     const at::Tensor& targets) {
  check_floating(op, "hidden", hidden);
  check_shape(op, "hidden", hidden, {kAnySize, kAnySize});
  check_floating(op, "head", head);
  check_shape(op, "head", head, {kAnySize, hidden.size(1)});
  check_device(op, "head", head, hidden);
  TORCH_CHECK(head.size(0) > 0, "[", op, "] head: expected at least one row, found none");
  check_dtype(op, "targets", targets, at::kLong);
  check_shape(op, "targets", targets, {hidden.size(0)});
  check_device(op, "targets", targets, hidden);
  if (!targets.is_cpu()) return;
  const at::Tensor is_wrong =
      targets.ne(kIgnoredTarget).logical_and(targets.lt(0).logical_or(targets.ge(head.size(0))));
  if (!is_wrong.any().item<bool>()) return;
  const int64_t index = is_wrong.nonzero()[0].item<int64_t>();
  TORCH_CHECK(false, "[", op, "] targets: expected ids from 0 to ", head.size(0) - 1, " (or ",
              kIgnoredTarget, "), found ", targets[index].item<int64_t>(), " at ", index);
}

std::tuple<at::Tensor, at::Tensor> linear_cross_entropy_plain(const at::Tensor& hidden,
                                                              const at::Tensor& head,
                                                              const at::Tensor& targets) {
  check_arguments("linear_cross_entropy", hidden, head, targets);
  const bool records = c10::GradMode::is_enabled();
  const variable_list result = LinearCrossEntropy::apply(
      hidden, head, targets, records && hidden.requires_grad(), records && head.requires_grad());
  return {result[0], result[1]};
}

at::Tensor token_negative_log_likelihood_plain(const at::Tensor& hidden, const at::Tensor& head,
                                               const at::Tensor& targets) {
  check_arguments("token_negative_log_likelihood", hidden, head, targets);
  const at::NoGradGuard no_gradient;
  return chunked_loss(hidden, head, targets, false, false).nll;
}

}  // namespace

int64_t cross_entropy_chunk_tokens(int64_t tokens, int64_t vocabulary) {
  constexpr int64_t kBytes = int64_t{64} << 20;
  const int64_t bytes_per_token = std::max<int64_t>(vocabulary, 1) * int64_t{sizeof(float)};
  const int64_t most = std::max<int64_t>(kBytes / bytes_per_token, 1);
  const int64_t chunks = std::max<int64_t>((tokens + most - 1) / most, 1);
  return std::max<int64_t>((tokens + chunks - 1) / chunks, 1);
}

LinearCrossEntropyResult linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& head,
                                              const at::Tensor& targets) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tigon::linear_cross_entropy", "")
                             .typed<decltype(linear_cross_entropy_plain)>();
  const auto [loss, count] = op.call(hidden, head, targets);
  return {loss, count};
}

at::Tensor token_negative_log_likelihood(const at::Tensor& hidden, const at::Tensor& head,
                                         const at::Tensor& targets) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tigon::token_negative_log_likelihood", "")
                             .typed<decltype(token_negative_log_likelihood_plain)>();
  return op.call(hidden, head, targets);
}

}  // namespace tigon

TORCH_LIBRARY_FRAGMENT(tigon, m) {
  m.def(
      "linear_cross_entropy(Tensor hidden, Tensor head, Tensor targets) "
      "-> (Tensor loss, Tensor count)");
  m.def("token_negative_log_likelihood(Tensor hidden, Tensor head, Tensor targets) -> Tensor");
}

TORCH_LIBRARY_IMPL(tigon, CompositeImplicitAutograd, m) {
  m.impl("linear_cross_entropy", tigon::linear_cross_entropy_plain);
  m.impl("token_negative_log_likelihood", tigon::token_negative_log_likelihood_plain);
}
