// window_attention on the GPU: the FlashAttention kernels that come with LibTorch for the window,
// kernels of our own for the sinks outside it, the plain definition elsewhere.
#include <ATen/ops/zeros_like.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/checks.h"
#include "ops/chunks/chunk_tables.h"
#include "ops/kernel_arguments.h"
#include "ops/kernel_launch.h"
#include "ops/window_attention/flash_window.h"
#include "ops/window_attention/window_attention_call.h"
#include "ops/window_attention/window_sinks_params.h"

namespace tigon {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Sinks that no query has outside its window are no sinks.
WindowAttentionCall without_idle_sinks(WindowAttentionCall call) {
  WindowAttentionOptions& options = call.options;
  if (options.window_keys == 0 || options.window_keys >= call.key_segments.longest) {
    options.sinks = 0;
  }
  return call;
}

bool flash_serves(const WindowAttentionCall& call) {
  const bool is_alone = call.options.sinks == 0 && !call.options.return_lse;
  return flash_takes(call, /*wants_lse=*/!is_alone) && call.options.sinks <= cuda::kMostSinks;
}

using Launch = KernelLaunch<cuda::WindowSinksParams>;

Launch start(const WindowAttentionCall& call, const FlashWindow& joint) {
  Launch launch;
  launch.stream = c10::cuda::getCurrentCUDAStream(call.q.device().index());
  cuda::WindowSinksParams& p = launch.params;
  p.type = element_type(call.q);
  p.q = launch.keep(call.q.contiguous()).const_data_ptr();
  p.k = launch.keep(call.k.contiguous()).const_data_ptr();
  p.v = launch.keep(call.v.contiguous()).const_data_ptr();
  p.cu_seqlens = launch.keep(call.segments.cu_seqlens.contiguous()).const_data_ptr<int32_t>();
  p.key_cu_seqlens =
      launch.keep(call.key_segments.cu_seqlens.contiguous()).const_data_ptr<int32_t>();
  p.tokens = call.segments.total;
  p.segments = static_cast<int>(call.segments.count());
  p.heads = static_cast<int>(call.q.size(1));
  p.kv_heads = static_cast<int>(call.k.size(1));
  p.head_dim = static_cast<int>(call.q.size(2));
  p.window_keys = static_cast<int>(call.options.window_keys);
  p.sinks = static_cast<int>(call.options.sinks);
  p.scale = static_cast<float>(call.options.scale);
  p.out = joint.out.data_ptr();
  p.lse = joint.lse.data_ptr<float>();
  const ChunkTables chunks = make_chunk_tables(call.segments, launch.stream);
  p.chunk_offsets = launch.keep(chunks.offsets).const_data_ptr<int32_t>();
  launch.keep(chunks.chunks);
  p.chunks = chunks.data();
  p.chunk_count = chunks.count;
  return launch;
}

FlashWindow joint_fwd(const WindowAttentionCall& call) {
  const c10::cuda::CUDAGuard guard(call.q.device());
  const FlashWindow joint = flash_window(call);
  if (call.options.sinks > 0) {
    const Launch launch = start(call, joint);
    C10_CUDA_CHECK(cuda::launch_window_sinks_fwd(launch.params, launch.stream));
  }
  return joint;
}

WindowGradients joint_bwd(const WindowAttentionCall& call, const FlashWindow& joint,
                          const at::Tensor& out_gradient, const at::Tensor& lse_gradient) {
  const c10::cuda::CUDAGuard guard(call.q.device());
  const at::Tensor upstream =
      out_gradient.defined() ? out_gradient.contiguous() : at::zeros_like(joint.out);
  const WindowGradients gradients = flash_window_gradients(call, joint, upstream, lse_gradient);
  if (call.options.sinks == 0) return gradients;
  Launch launch = start(call, joint);
  cuda::WindowSinksParams& p = launch.params;
  const int64_t N = p.tokens, H = p.heads, Hkv = p.kv_heads, D = p.head_dim, C = p.chunk_count;
  p.out_gradient = launch.keep(upstream).const_data_ptr();
  if (lse_gradient.defined()) {
    p.lse_gradient = launch.keep(lse_gradient.contiguous()).const_data_ptr<float>();
  }
  p.q_gradient = gradients.q.data_ptr();
  p.k_gradient = gradients.k.data_ptr();
  p.v_gradient = gradients.v.data_ptr();
  const auto floats = [&](at::IntArrayRef shape) {
    return launch.make(shape, at::kFloat, call.q.device()).mutable_data_ptr<float>();
  };
  p.probabilities = floats({N, H, p.sinks});
  p.score_gradients = floats({N, H, p.sinks});
  p.key_sums = floats({C, Hkv, p.sinks, D});
  p.value_sums = floats({C, Hkv, p.sinks, D});
  C10_CUDA_CHECK(cuda::launch_window_sinks_bwd(p, launch.stream));
  return gradients;
}

class JointWindow : public torch::autograd::Function<JointWindow> {
 public:
  /// → out, and the log-sum-exp if the call returns it.
  static variable_list forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                               const at::Tensor& v, const WindowAttentionCall& call) {
    ctx->saved_data["call"] = keep_window_call(call);
    ctx->set_materialize_grads(false);
    const FlashWindow joint = joint_fwd(call);
    ctx->save_for_backward({q, k, v, joint.out, joint.lse, joint.rng_state, joint.unused});
    variable_list result = {joint.out};
    if (call.options.return_lse) result.push_back(joint.lse.t().contiguous());
    return result;
  }

  static variable_list backward(AutogradContext* ctx, variable_list upstream) {
    refuse_double_backward("window_attention");
    const variable_list saved = ctx->get_saved_variables();
    const WindowAttentionCall call =
        kept_window_call(ctx->saved_data["call"], saved[0], saved[1], saved[2]);
    const WindowGradients gradients =
        joint_bwd(call, {saved[3], saved[4], saved[5], saved[6]}, upstream[0],
                  call.options.return_lse ? upstream[1] : at::Tensor());
    variable_list result(4);  // one for each argument of forward
    if (ctx->needs_input_grad(0)) result[0] = gradients.q;
    if (ctx->needs_input_grad(1)) result[1] = gradients.k;
    if (ctx->needs_input_grad(2)) result[2] = gradients.v;
    return result;
  }
};

std::tuple<at::Tensor, at::Tensor> window_attention_cuda(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& cu_seqlens,
    int64_t window_keys, int64_t sinks, std::optional<double> scale, bool return_lse,
    const std::optional<at::Tensor>& key_cu_seqlens, at::OptionalIntArrayRef lengths,
    at::OptionalIntArrayRef key_lengths) {
  const WindowAttentionCall call =
      without_idle_sinks(check_window_attention(q, k, v, cu_seqlens, window_keys, sinks, scale,
                                                return_lse, key_cu_seqlens, lengths, key_lengths));
  if (!flash_serves(call)) {
    const WindowAttentionResult result = window_attention_plain(call);
    return {result.out, result.lse};
  }
  const variable_list result = JointWindow::apply(q, k, v, call);
  return {result[0], return_lse ? result[1] : at::Tensor()};
}

}  // namespace

TORCH_LIBRARY_IMPL(tigon, CUDA, m) {
  m.impl("window_attention", window_attention_cuda);
}
TORCH_LIBRARY_IMPL(tigon, AutogradCUDA, m) {
  m.impl("window_attention", window_attention_cuda);
}

}  // namespace tigon
