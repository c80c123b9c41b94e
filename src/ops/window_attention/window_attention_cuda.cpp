// window_attention on the GPU: the FlashAttention kernels that come with LibTorch where they can
// serve the call, the plain definition elsewhere.
#include <ATen/ops/_flash_attention_forward.h>
#include <torch/library.h>

#include "ops/window_attention/window_attention_call.h"

namespace tigon {
namespace {

// The kernels know no sinks, and the gradient of their log-sum-exp is not defined.
bool flash_serves(const WindowAttentionCall& call) {
  const at::ScalarType dtype = call.q.scalar_type();
  const int64_t D = call.q.size(2);
  return (dtype == at::kBFloat16 || dtype == at::kHalf) && D <= 256 && D % 8 == 0 &&
         call.segments.total > 0 && call.options.sinks == 0 && !call.options.return_lse;
}

at::Tensor flash_attention(const WindowAttentionCall& call) {
  const WindowAttentionOptions& options = call.options;
  // Of a window of w keys, w−1 lie to the left; −1 stands for no bound. Queries are aligned with
  // the last keys of their segment.
  const int64_t left = options.window_keys == 0 ? -1 : options.window_keys - 1;
  return std::get<0>(at::_flash_attention_forward(
      call.q.contiguous(), call.k.contiguous(), call.v.contiguous(), call.segments.cu_seqlens,
      call.key_segments.cu_seqlens, call.segments.longest, call.key_segments.longest,
      /*dropout_p=*/0, /*is_causal=*/true, /*return_debug_mask=*/false, options.scale, left,
      /*window_size_right=*/0));
}

std::tuple<at::Tensor, at::Tensor> window_attention_cuda(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& cu_seqlens,
    int64_t window_keys, int64_t sinks, std::optional<double> scale, bool return_lse,
    const std::optional<at::Tensor>& key_cu_seqlens, at::OptionalIntArrayRef lengths,
    at::OptionalIntArrayRef key_lengths) {
  const WindowAttentionCall call =
      check_window_attention(q, k, v, cu_seqlens, window_keys, sinks, scale, return_lse,
                             key_cu_seqlens, lengths, key_lengths);
  if (flash_serves(call)) return {flash_attention(call), at::Tensor()};
  const WindowAttentionResult result = window_attention_plain(call);
  return {result.out, result.lse};
}

}  // namespace

TORCH_LIBRARY_IMPL(tigon, CUDA, m) {
  m.impl("window_attention", window_attention_cuda);
}
TORCH_LIBRARY_IMPL(tigon, AutogradCUDA, m) {
  m.impl("window_attention", window_attention_cuda);
}

}  // namespace tigon
