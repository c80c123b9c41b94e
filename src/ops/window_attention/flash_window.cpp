#include "ops/window_attention/flash_window.h"

#include <ATen/ceil_div.h>
#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/stack.h>
#include <torch/custom_class.h>

#include <limits>

namespace tigon {
namespace {

/// Channels added for the gradient of lse.
constexpr int64_t kLseChannels = 8;

struct KeptWindowCall : torch::CustomClassHolder {
  explicit KeptWindowCall(WindowAttentionCall call_to_keep) : call(std::move(call_to_keep)) {}
  WindowAttentionCall call;
};

/// Of a window of w keys, w−1 lie to the left; −1 stands for no bound. Queries are aligned with the
/// last keys of their segment. The kernels take it as 32 bits, so a wider one is none.
int64_t keys_to_the_left(const WindowAttentionCall& call) {
  const int64_t w = call.options.window_keys;
  return w == 0 || w > call.key_segments.longest ? -1 : w - 1;
}

/// FlashAttention's backward pass counts the numbers [tokens, H, D] before a segment in 32 bits, D
/// rounded up, where it adds up the gradients of q: what lies behind is written elsewhere.
int64_t most_tokens_before_segment(const WindowAttentionCall& call) {
  const int64_t D = at::round_up(call.q.size(2) + kLseChannels, int64_t{64});
  return std::numeric_limits<int32_t>::max() / (call.q.size(1) * D);
}

// FlashAttention takes dS = P ⊙ (do vᵀ − rowsum(do ⊙ out)) with P = exp(s − lse): with the joint
// out and lse that is exact for the window's keys. The gradient of lse, which adds P ⊙ dlse, comes
// in through further channels: q and k are 0 there, v is 1, do is dlse (in three parts that add up
// to its float32), and out is 0.
WindowGradients gradients_in_one_call(const WindowAttentionCall& call, const FlashWindow& joint,
                                      const at::Tensor& out_gradient,
                                      const at::Tensor& lse_gradient) {
  at::Tensor q = call.q, k = call.k, v = call.v, out = joint.out, upstream = out_gradient;
  const int64_t D = q.size(2);
  if (lse_gradient.defined()) {
    at::Tensor rest = lse_gradient;
    std::vector<at::Tensor> parts;
    for (int i = 0; i < 3; ++i) {
      parts.push_back(rest.to(q.scalar_type()));
      rest = rest - parts.back().to(at::kFloat);
    }
    const at::Tensor ones = at::ones_like(v.narrow(2, 0, 3));
    upstream =
        at::constant_pad_nd(at::cat({upstream, at::stack(parts, 2)}, 2), {0, kLseChannels - 3});
    v = at::constant_pad_nd(at::cat({v, ones}, 2), {0, kLseChannels - 3});
    for (at::Tensor* x : {&q, &k, &out}) *x = at::constant_pad_nd(*x, {0, kLseChannels});
  }
  auto [dq, dk, dv] = at::_flash_attention_backward(
      upstream.contiguous(), q.contiguous(), k.contiguous(), v.contiguous(), out.contiguous(),
      joint.lse, call.segments.cu_seqlens, call.key_segments.cu_seqlens, call.segments.longest,
      call.key_segments.longest, /*dropout_p=*/0, /*is_causal=*/true, joint.rng_state, joint.unused,
      call.options.scale, keys_to_the_left(call), /*window_size_right=*/0);
  const auto own = [&](const at::Tensor& x) { return x.narrow(2, 0, D).contiguous(); };
  return {own(dq), own(dk), own(dv)};
}

}  // namespace

bool flash_takes(const WindowAttentionCall& call, bool wants_lse) {
  const at::ScalarType dtype = call.q.scalar_type();
  const int64_t D = call.q.size(2);
  return (dtype == at::kBFloat16 || dtype == at::kHalf) && D % 8 == 0 &&
         D <= (wants_lse ? 256 - kLseChannels : 256) && call.segments.total > 0;
}

FlashWindow flash_window(const WindowAttentionCall& call) {
  const auto [out, lse, rng_state, unused, mask] = at::_flash_attention_forward(
      call.q.contiguous(), call.k.contiguous(), call.v.contiguous(), call.segments.cu_seqlens,
      call.key_segments.cu_seqlens, call.segments.longest, call.key_segments.longest,
      /*dropout_p=*/0, /*is_causal=*/true, /*return_debug_mask=*/false, call.options.scale,
      keys_to_the_left(call), /*window_size_right=*/0);
  TORCH_INTERNAL_ASSERT(lse.sizes() == at::IntArrayRef({call.q.size(1), call.q.size(0)}));
  return {out, lse.contiguous(), rng_state, unused};
}

WindowGradients flash_window_gradients(const WindowAttentionCall& call, const FlashWindow& joint,
                                       const at::Tensor& out_gradient,
                                       const at::Tensor& lse_gradient) {
  const std::vector<int64_t> runs =
      runs_of_segments(call.segments, most_tokens_before_segment(call));
  if (runs.size() == 1) return gradients_in_one_call(call, joint, out_gradient, lse_gradient);
  std::vector<at::Tensor> dq, dk, dv;
  int64_t segment = 0, query = 0, key = 0;
  for (const int64_t count : runs) {
    WindowAttentionCall run = call;
    run.segments = call.segments.range(segment, count);
    run.key_segments = call.key_segments.range(segment, count);
    const int64_t N = run.segments.total, M = run.key_segments.total;
    const auto queries = [&](const at::Tensor& x, int64_t dim) { return x.narrow(dim, query, N); };
    run.q = queries(call.q, 0);
    run.k = call.k.narrow(0, key, M);
    run.v = call.v.narrow(0, key, M);
    const WindowGradients found = gradients_in_one_call(
        run,
        {queries(joint.out, 0), queries(joint.lse, 1).contiguous(), joint.rng_state, joint.unused},
        queries(out_gradient, 0), lse_gradient.defined() ? queries(lse_gradient, 0) : lse_gradient);
    dq.push_back(found.q);
    dk.push_back(found.k);
    dv.push_back(found.v);
    segment += count;
    query += N;
    key += M;
  }
  return {at::cat(dq), at::cat(dk), at::cat(dv)};
}

c10::IValue keep_window_call(WindowAttentionCall call) {
  call.q = call.k = call.v = at::Tensor();
  return c10::IValue::make_capsule(c10::make_intrusive<KeptWindowCall>(std::move(call)));
}

WindowAttentionCall kept_window_call(const c10::IValue& kept, const at::Tensor& q,
                                     const at::Tensor& k, const at::Tensor& v) {
  const auto capsule = kept.toCapsule();
  WindowAttentionCall call = static_cast<const KeptWindowCall&>(*capsule).call;
  call.q = q;
  call.k = k;
  call.v = v;
  return call;
}

}  // namespace tigon
