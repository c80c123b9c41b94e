#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "ops/checks.h"
#include "ops/linear_cross_entropy/linear_cross_entropy_call.h"

namespace tigon {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// N tokens, M hidden size, V vocabulary, C tokens of a chunk.
struct ChunkedLoss {
  at::Tensor nll;           // [N] −log p(target), 0 where ignored
  at::Tensor teacher_loss;  // [N] −Σ p_teacher log p, 0 where ignored; undefined without a teacher
  at::Tensor dhidden;       // [N, M] gradient of the weighted sum over both, dtype of hidden;
                            // undefined if not asked for
  at::Tensor dhead;         // [V, M] the same for the head, wide; undefined if not asked for
};

ChunkedLoss chunked_loss(const CrossEntropyCall& call, const LogitsStep& step,
                         bool hidden_needs_gradient, bool head_needs_gradient) {
  const at::Tensor& hidden = call.hidden;
  const int64_t N = hidden.size(0), V = call.head.size(0);
  const at::ScalarType type = hidden.scalar_type(), wide = accumulation_type(type);
  const bool has_teacher = call.teacher_hidden.defined();
  const at::Tensor weight = call.head.to(type);

  ChunkedLoss result;
  result.nll = at::empty({N}, hidden.options().dtype(wide));
  if (has_teacher) result.teacher_loss = at::empty({N}, hidden.options().dtype(wide));
  if (hidden_needs_gradient) result.dhidden = at::empty(hidden.sizes(), hidden.options());
  if (head_needs_gradient) {
    result.dhead = at::zeros(call.head.sizes(), call.head.options().dtype(wide));
  }

  const int64_t tokens = cross_entropy_chunk_tokens(
      N, V, step.bytes_per_logit * (has_teacher ? 2 : 1), step.chunk_bytes);
  for (int64_t start = 0; start < N; start += tokens) {
    const int64_t C = std::min(tokens, N - start);
    const auto part = [&](const at::Tensor& of_all) { return of_all.narrow(0, start, C); };
    const at::Tensor rows = part(hidden);  // [C, M]
    LogitsChunk chunk;
    chunk.logits = at::linear(rows, weight);  // [C, V]
    chunk.targets = part(call.targets);
    chunk.nll = part(result.nll);
    if (has_teacher) {
      chunk.teacher_logits = at::linear(part(call.teacher_hidden), weight);
      chunk.teacher_loss = part(result.teacher_loss);
    }
    chunk.target_weight = call.target_weight;
    chunk.teacher_weight = call.teacher_weight;
    chunk.needs_gradient = hidden_needs_gradient || head_needs_gradient;
    const at::Tensor dlogits = step.apply(chunk);  // [C, V]
    // The step has read them: their memory can serve the products.
    chunk.logits = chunk.teacher_logits = at::Tensor();
    if (hidden_needs_gradient) {
      at::Tensor dhidden = part(result.dhidden);
      at::mm_out(dhidden, dlogits, weight);
    }
    if (head_needs_gradient) result.dhead.add_(at::mm(dlogits.t(), rows));
  }
  return result;
}

struct Means {
  at::Tensor loss;           // scalar: the mixture
  at::Tensor count;          // scalar int64
  at::Tensor cross_entropy;  // scalar
  at::Tensor inverse_count;  // scalar, float64; 1 where nothing counts
};

Means means_over_counted(const ChunkedLoss& sums, const CrossEntropyCall& call) {
  Means means;
  means.count = call.targets.ne(kIgnoredTarget).sum();
  means.inverse_count = means.count.clamp_min(1).to(at::kDouble).reciprocal();
  const at::ScalarType type = sums.nll.scalar_type();
  const at::Tensor cross_entropy = at::sum(sums.nll, at::kDouble) * means.inverse_count;
  at::Tensor loss = cross_entropy * call.target_weight;
  if (sums.teacher_loss.defined()) {
    loss += at::sum(sums.teacher_loss, at::kDouble) * means.inverse_count * call.teacher_weight;
  }
  means.loss = loss.to(type);
  means.cross_entropy = cross_entropy.to(type);
  return means;
}

class LinearCrossEntropy : public torch::autograd::Function<LinearCrossEntropy> {
 public:
  // hidden and head are the call's own; here they are what autograd sees.
  static variable_list forward(AutogradContext* ctx, const at::Tensor& hidden,
                               const at::Tensor& head, const CrossEntropyCall& call,
                               const LogitsStep& step, bool hidden_needs_gradient,
                               bool head_needs_gradient) {
    const ChunkedLoss sums = chunked_loss(call, step, hidden_needs_gradient, head_needs_gradient);
    const Means means = means_over_counted(sums, call);
    ctx->save_for_backward({sums.dhidden, sums.dhead, means.inverse_count});
    ctx->saved_data["head_type"] = head.scalar_type();
    ctx->mark_non_differentiable({means.count, means.cross_entropy});
    return {means.loss, means.count, means.cross_entropy};
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    refuse_double_backward("linear_cross_entropy");
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &dhidden = saved[0], &dhead = saved[1], &inverse_count = saved[2];
    // Of one dimension, so that the product is made in its wide type and rounded once: a factor
    // rounded to bfloat16 would bias the whole gradient.
    const at::Tensor factor =
        (gradients[0] * inverse_count.to(gradients[0].scalar_type())).view({1});
    const auto scaled = [&](const at::Tensor& sum, at::ScalarType type) {
      at::Tensor result = at::empty(sum.sizes(), sum.options().dtype(type));
      return at::mul_out(result, sum, factor);
    };
    variable_list result(6);  // one for each argument of forward
    if (dhidden.defined()) result[0] = scaled(dhidden, dhidden.scalar_type());
    if (dhead.defined()) result[1] = scaled(dhead, ctx->saved_data["head_type"].toScalarType());
    return result;
  }
};

}  // namespace

LinearCrossEntropyResult chunked_linear_cross_entropy(const CrossEntropyCall& call,
                                                      const LogitsStep& step) {
  const bool records = c10::GradMode::is_enabled();
  const variable_list result = LinearCrossEntropy::apply(call.hidden, call.head, call, step,
                                                         records && call.hidden.requires_grad(),
                                                         records && call.head.requires_grad());
  return {result[0], result[1], result[2]};
}

at::Tensor chunked_negative_log_likelihood(const CrossEntropyCall& call, const LogitsStep& step) {
  const at::NoGradGuard no_gradient;
  return chunked_loss(call, step, false, false).nll;
}

int64_t cross_entropy_chunk_tokens(int64_t tokens, int64_t vocabulary, int64_t bytes_per_logit,
                                   int64_t bytes) {
  const int64_t bytes_per_token = std::max<int64_t>(vocabulary, 1) * bytes_per_logit;
  const int64_t most = std::max<int64_t>(bytes / bytes_per_token, 1);
  const int64_t chunks = std::max<int64_t>((tokens + most - 1) / most, 1);
  return std::max<int64_t>((tokens + chunks - 1) / chunks, 1);
}

}  // namespace tigon
