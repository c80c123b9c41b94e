#include "ops/joint_attention/second_order_cuda.h"

#include <ATen/ceil_div.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "ops/checks.h"
#include "ops/gated_scan/gated_scan.h"
#include "ops/joint_attention/joint_attention_parts.h"
#include "ops/joint_attention/second_order_params.h"
#include "ops/rope/rope.h"
#include "ops/window_attention/flash_window.h"

namespace tigon {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr const char* kOp = "joint_attention";
constexpr int64_t kMostChannels = 128;    // that gated_scan's kernels take
constexpr int64_t kChannelMultiple = 32;  // to which they would pad
constexpr int64_t kNumberMultiple = 8;    // of fast products in bf16

at::Tensor pad_last(const at::Tensor& x, int64_t size) {
  return size == x.size(-1) ? x : at::constant_pad_nd(x, {0, size - x.size(-1)});
}

cudaStream_t stream_of(const at::Tensor& x) {
  return c10::cuda::getCurrentCUDAStream(x.device().index());
}

/// importance · φ(z), of z [N, H, ≥ R] float32 whose last dimension is dense.
class SecondOrderFeatures : public torch::autograd::Function<SecondOrderFeatures> {
 public:
  /// → [N, H, channels] bf16.
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& z,
                            const std::optional<at::Tensor>& importance, int64_t numbers,
                            int64_t channels) {
    const at::Tensor weights = importance ? importance->contiguous() : at::Tensor();
    ctx->save_for_backward({z, weights});
    ctx->saved_data["numbers"] = numbers;
    const at::Tensor features =
        at::empty({z.size(0), z.size(1), channels}, z.options().dtype(at::kBFloat16));
    const c10::cuda::CUDAGuard guard(z.device());
    cuda::SecondOrderFeaturesParams params = params_of(z, weights, numbers, channels);
    params.features = features.mutable_data_ptr();
    C10_CUDA_CHECK(cuda::launch_second_order_features_fwd(params, stream_of(z)));
    return features;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& upstream) {
    refuse_double_backward(kOp);
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &z = saved[0], &weights = saved[1];
    const at::Tensor gradient = upstream[0].contiguous();
    const at::Tensor z_gradient = at::empty_like(z);  // strides of z
    TORCH_INTERNAL_ASSERT(z_gradient.strides() == z.strides());
    const at::Tensor weight_gradient = weights.defined() ? at::empty_like(weights) : at::Tensor();
    const c10::cuda::CUDAGuard guard(z.device());
    cuda::SecondOrderFeaturesParams params =
        params_of(z, weights, ctx->saved_data["numbers"].toInt(), gradient.size(2));
    params.features_gradient = gradient.const_data_ptr();
    params.z_gradient = z_gradient.mutable_data_ptr<float>();
    if (weights.defined()) params.importance_gradient = weight_gradient.mutable_data_ptr<float>();
    C10_CUDA_CHECK(cuda::launch_second_order_features_bwd(params, stream_of(z)));
    return {z_gradient, weight_gradient, at::Tensor(), at::Tensor()};
  }

 private:
  static cuda::SecondOrderFeaturesParams params_of(const at::Tensor& z, const at::Tensor& weights,
                                                   int64_t numbers, int64_t channels) {
    TORCH_INTERNAL_ASSERT(z.scalar_type() == at::kFloat && z.stride(2) == 1);
    cuda::SecondOrderFeaturesParams params = {};
    params.tokens = z.size(0);
    params.heads = static_cast<int>(z.size(1));
    params.numbers = static_cast<int>(numbers);
    params.channels = static_cast<int>(channels);
    params.z = z.const_data_ptr<float>();
    params.token_stride = z.stride(0);
    params.head_stride = z.stride(1);
    params.row = static_cast<int>(z.size(2));
    if (weights.defined()) params.importance = weights.const_data_ptr<float>();
    return params;
  }
};

/// importance · φ(x w + b) of x [N, H, D] → [N, H, channels] bf16, zeros behind the features' own.
at::Tensor features_of(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b,
                       const std::optional<at::Tensor>& importance, int64_t channels) {
  const int64_t R = w.size(2), row = at::round_up(R, kNumberMultiple);
  const at::Tensor map = pad_last(w.to(x.scalar_type()), row);
  const at::Tensor z = x.transpose(0, 1).matmul(map).to(at::kFloat) +
                       pad_last(b.to(at::kFloat), row).unsqueeze(1);  // [H, N, row]
  return SecondOrderFeatures::apply(z.transpose(0, 1), importance, R, channels);
}

/// The window and what the state gives, under one denominator.
class WindowBesideState : public torch::autograd::Function<WindowBesideState> {
 public:
  /// far [N, H, D+1] and log_mix [N, H] float32 → [N, H, D].
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const at::Tensor& far, const at::Tensor& log_mix,
                            WindowAttentionCall call) {
    call.q = q;
    call.k = k;
    call.v = v;
    ctx->saved_data["call"] = keep_window_call(call);
    const c10::cuda::CUDAGuard guard(q.device());
    const FlashWindow near = flash_window(call);
    const at::Tensor window_out = near.out.contiguous();
    const at::Tensor out = at::empty_like(window_out), joint_lse = at::empty_like(near.lse);
    cuda::OneDenominatorParams params = params_of(far, log_mix, out, joint_lse);
    params.near = window_out.const_data_ptr();
    params.lse = near.lse.const_data_ptr<float>();
    C10_CUDA_CHECK(cuda::launch_one_denominator_fwd(params, stream_of(q)));
    ctx->save_for_backward({q, k, v, far, log_mix, out, joint_lse, near.rng_state, near.unused});
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& upstream) {
    refuse_double_backward(kOp);
    const variable_list saved = ctx->get_saved_variables();
    const WindowAttentionCall call =
        kept_window_call(ctx->saved_data["call"], saved[0], saved[1], saved[2]);
    const at::Tensor &far = saved[3], &log_mix = saved[4], &out = saved[5], &joint_lse = saved[6];
    const at::Tensor gradient = upstream[0].contiguous();
    const c10::cuda::CUDAGuard guard(out.device());
    const at::Tensor far_gradient = at::empty(far.sizes(), far.options());
    const at::Tensor log_mix_gradient = at::empty(log_mix.sizes(), log_mix.options());
    cuda::OneDenominatorParams params = params_of(far, log_mix, out, joint_lse);
    params.out_gradient = gradient.const_data_ptr();
    params.far_gradient = far_gradient.mutable_data_ptr<float>();
    params.log_mix_gradient = log_mix_gradient.mutable_data_ptr<float>();
    C10_CUDA_CHECK(cuda::launch_one_denominator_bwd(params, stream_of(out)));
    const WindowGradients window =
        flash_window_gradients(call, {out, joint_lse, saved[7], saved[8]}, gradient);
    return {window.q, window.k, window.v, far_gradient, log_mix_gradient, at::Tensor()};
  }

 private:
  static cuda::OneDenominatorParams params_of(const at::Tensor& far, const at::Tensor& log_mix,
                                              const at::Tensor& out, const at::Tensor& joint_lse) {
    TORCH_INTERNAL_ASSERT(far.scalar_type() == at::kFloat && far.stride(2) == 1 &&
                          log_mix.scalar_type() == at::kFloat && log_mix.is_contiguous() &&
                          joint_lse.is_contiguous());
    cuda::OneDenominatorParams params = {};
    params.tokens = out.size(0);
    params.heads = static_cast<int>(out.size(1));
    params.head_dim = static_cast<int>(out.size(2));
    params.far = far.const_data_ptr<float>();
    params.far_token_stride = far.stride(0);
    params.far_head_stride = far.stride(1);
    params.log_mix = log_mix.const_data_ptr<float>();
    params.out = out.data_ptr();
    params.joint_lse = joint_lse.data_ptr<float>();
    return params;
  }
};

/// With rotated queries and keys.
WindowAttentionCall window_of(const JointAttentionCall& call) {
  const double rope_scale = call.options.rope_scale;
  return {.q = rope(call.q, query_positions(call), call.inverse_frequencies, rope_scale),
          .k = rope(call.k, call.key_positions, call.inverse_frequencies, rope_scale),
          .v = call.v,
          .segments = call.segments,
          .key_segments = call.key_segments,
          .options = {.window_keys = call.options.window_keys,
                      .sinks = 0,
                      .scale = 1 / std::sqrt(static_cast<double>(call.q.size(2))),
                      .return_lse = true}};
}

}  // namespace

bool second_order_kernels_serve(const JointAttentionCall& call) {
  const int64_t R = call.maps.w_q.size(2);
  return call.maps.second_order && call.q.scalar_type() == at::kBFloat16 && call.q.size(1) > 0 &&
         R <= cuda::kMostSecondOrderNumbers && joint_feature_channels(R, true) <= kMostChannels &&
         flash_takes({call.q, call.k, call.v, call.segments, call.key_segments, {}},
                     /*wants_lse=*/false);
}

JointAttentionResult joint_attention_of_second_order(const JointAttentionCall& call) {
  check_device(kOp, "cu_seqlens", call.segments.cu_seqlens, call.q);
  const JointAttentionParameters& maps = call.maps;
  const int64_t E = maps.log_tau.size(1), channels = at::round_up(E, kChannelMultiple);
  std::optional<at::Tensor> initial_state = call.initial_state;
  if (initial_state) {
    initial_state = at::constant_pad_nd(*initial_state, {0, 0, 0, channels - E});
  }
  const GatedScanResult scan = gated_scan(
      features_of(call.q, maps.w_q, maps.b_q, std::nullopt, channels),
      features_of(call.k, maps.w_k, maps.b_k, joint_importance(call.log_importance, at::kFloat),
                  channels),
      call.v, pad_last(joint_log_decay(maps.log_tau, at::kFloat), channels).unsqueeze(0),
      call.segments, initial_state,
      {.normalizer = true, .delay = call.options.window_keys, .key_segments = call.key_segments});
  const WindowAttentionCall window = window_of(call);
  const at::Tensor out = WindowBesideState::apply(window.q, window.k, window.v, scan.out,
                                                  call.log_mix.to(at::kFloat).contiguous(), window);
  return {out, scan.state.narrow(2, 0, E)};
}

}  // namespace tigon
