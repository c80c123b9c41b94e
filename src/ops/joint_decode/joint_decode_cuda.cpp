// joint_decode on the GPU: its kernels where they take the tensors, the plain definition elsewhere.
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "ops/decode_step/decode_step_cuda.h"
#include "ops/joint_decode/joint_decode_call.h"
#include "ops/joint_decode/joint_decode_params.h"
#include "ops/kernel_arguments.h"

namespace tigon {
namespace {

/// The kernels walk four rows of a matrix at a time.
bool kernels_serve(const JointDecodeCall& call) {
  return decode_kernels_serve(call.tokens, call.state) &&
         call.ring_log_importance.is_contiguous() &&
         call.parameters.w_q.size(2) <= cuda::kDecodeLargestHead &&
         call.parameters.log_tau.size(1) % 4 == 0 &&
         call.parameters.log_tau.size(1) <= 2 * cuda::kDecodeLargestHead;
}

/// As the kernels read parameters and logits: float32 without gaps, from 16 bytes on.
at::Tensor as_floats(const at::Tensor& x) {
  const at::Tensor floats = x.to(at::kFloat).contiguous();
  const bool fits = reinterpret_cast<uintptr_t>(floats.const_data_ptr()) % 16 == 0;
  return fits ? floats : floats.clone();
}

at::Tensor run_kernels(const JointDecodeCall& call) {
  const at::NoGradGuard no_grad;
  const c10::cuda::CUDAGuard guard(call.tokens.q.device());
  const DecodeStepLaunch launch(call.tokens, call.state);
  const JointAttentionParameters& p = call.parameters;
  const at::Tensor kept[] = {as_floats(p.w_q),
                             as_floats(p.b_q),
                             as_floats(p.w_k),
                             as_floats(p.b_k),
                             as_floats(p.log_tau),
                             as_floats(call.logits.log_importance),
                             as_floats(call.logits.log_mix)};
  const int64_t S = launch.params.sequences, H = launch.params.heads;
  const int64_t Hkv = launch.params.kv_heads, R = p.w_q.size(2);
  const at::Tensor between =
      at::empty({S * (H * R + Hkv * R + Hkv)}, launch.q.options().dtype(at::kFloat));
  float* const query_logits = between.mutable_data_ptr<float>();
  float* const key_logits = query_logits + S * H * R;
  const cuda::JointDecodeParams params{
      .step = launch.params,
      .second_order = p.second_order,
      .numbers = static_cast<int>(R),
      .channels = static_cast<int>(p.log_tau.size(1)),
      .w_q = kept[0].const_data_ptr<float>(),
      .b_q = kept[1].const_data_ptr<float>(),
      .w_k = kept[2].const_data_ptr<float>(),
      .b_k = kept[3].const_data_ptr<float>(),
      .log_importance = kept[5].const_data_ptr<float>(),
      .log_mix = kept[6].const_data_ptr<float>(),
      .log_tau = kept[4].const_data_ptr<float>(),
      .ring_log_importance = call.ring_log_importance.mutable_data_ptr<float>(),
      .query_logits = query_logits,
      .key_logits = key_logits,
      .leaving_log_importance = key_logits + S * Hkv * R};
  const auto stream = c10::cuda::getCurrentCUDAStream();
  C10_CUDA_CHECK(cuda::launch_joint_decode_maps(params, stream));
  C10_CUDA_CHECK(cuda::launch_joint_decode(params, stream));
  return launch.out;
}

at::Tensor joint_decode_cuda(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             const at::Tensor& positions, const at::Tensor& inverse_frequencies,
                             const at::Tensor& w_q, const at::Tensor& b_q, const at::Tensor& w_k,
                             const at::Tensor& b_k, const at::Tensor& log_importance,
                             const at::Tensor& log_mix, const at::Tensor& log_tau,
                             const at::Tensor& ring_keys, const at::Tensor& ring_values,
                             const at::Tensor& ring_log_importance, const at::Tensor& matrices,
                             const std::optional<at::Tensor>& slots, double rope_scale,
                             bool second_order) {
  const JointDecodeCall call{.tokens = {q, k, v, positions, inverse_frequencies, rope_scale},
                             .logits = {log_importance, log_mix},
                             .parameters = {w_q, b_q, w_k, b_k, log_tau, second_order},
                             .state = {ring_keys, ring_values, matrices, slots},
                             .ring_log_importance = ring_log_importance};
  check_joint_decode(call);
  return kernels_serve(call) ? run_kernels(call) : joint_decode_plain(call);
}

}  // namespace

TORCH_LIBRARY_IMPL(tigon, CUDA, m) {
  m.impl("joint_decode", joint_decode_cuda);
}
TORCH_LIBRARY_IMPL(tigon, AutogradCUDA, m) {
  m.impl("joint_decode", joint_decode_cuda);
}

}  // namespace tigon
