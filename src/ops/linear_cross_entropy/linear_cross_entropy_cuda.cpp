// linear_cross_entropy and token_negative_log_likelihood on the GPU: float32, bfloat16 and float16
// logits become losses and their own gradient in linear_cross_entropy_kernel.cu; the plain
// definition serves float64.
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "ops/kernel_arguments.h"
#include "ops/linear_cross_entropy/linear_cross_entropy_call.h"
#include "ops/linear_cross_entropy/linear_cross_entropy_params.h"

namespace tigon {
namespace {

at::Tensor apply_kernel(const LogitsChunk& chunk) {
  const c10::cuda::CUDAGuard guard(chunk.logits.device());
  const at::Tensor logits = chunk.logits.contiguous();  // [C, V]
  const at::Tensor targets = chunk.targets.contiguous();
  at::Tensor teacher_logits;
  CrossEntropyParams params{};
  params.type = element_type(logits);
  params.rows = logits.size(0);
  params.vocabulary = logits.size(1);
  params.logits = logits.mutable_data_ptr();
  if (chunk.teacher_logits.defined()) {
    teacher_logits = chunk.teacher_logits.contiguous();
    params.teacher_logits = teacher_logits.const_data_ptr();
    params.teacher_loss = chunk.teacher_loss.mutable_data_ptr<float>();
  }
  params.targets = targets.const_data_ptr<int64_t>();
  params.ignored_target = kIgnoredTarget;
  params.nll = chunk.nll.mutable_data_ptr<float>();
  params.target_weight = static_cast<float>(chunk.target_weight);
  params.teacher_weight = static_cast<float>(chunk.teacher_weight);
  params.writes_gradient = chunk.needs_gradient;
  C10_CUDA_CHECK(launch_cross_entropy(params, c10::cuda::getCurrentCUDAStream()));
  return chunk.needs_gradient ? logits : at::Tensor();
}

LogitsStep logits_step(const at::Tensor& hidden) {
  if (!has_kernel_type(hidden)) return plain_logits_step();
  return {apply_kernel, hidden.element_size(), kKernelLogitBytes};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> linear_cross_entropy_cuda(
    const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets,
    const std::optional<at::Tensor>& teacher_hidden, double target_weight, double teacher_weight) {
  const LinearCrossEntropyResult result = chunked_linear_cross_entropy(
      check_cross_entropy("linear_cross_entropy", hidden, head, targets, teacher_hidden,
                          target_weight, teacher_weight),
      logits_step(hidden));
  return {result.loss, result.count, result.cross_entropy};
}

at::Tensor token_negative_log_likelihood_cuda(const at::Tensor& hidden, const at::Tensor& head,
                                              const at::Tensor& targets) {
  return chunked_negative_log_likelihood(
      check_cross_entropy("token_negative_log_likelihood", hidden, head, targets, {}, 1, 0),
      logits_step(hidden));
}

}  // namespace

TORCH_LIBRARY_IMPL(tigon, CUDA, m) {
  m.impl("linear_cross_entropy", linear_cross_entropy_cuda);
  m.impl("token_negative_log_likelihood", token_negative_log_likelihood_cuda);
}
TORCH_LIBRARY_IMPL(tigon, AutogradCUDA, m) {
  m.impl("linear_cross_entropy", linear_cross_entropy_cuda);
  m.impl("token_negative_log_likelihood", token_negative_log_likelihood_cuda);
}

}  // namespace tigon
