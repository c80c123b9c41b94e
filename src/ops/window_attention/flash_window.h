// The window by the FlashAttention kernels that come with LibTorch, and its gradients when more
// stands under the same denominator. CUDA builds only.
#pragma once
#include <ATen/core/ivalue.h>

#include "ops/window_attention/window_attention_call.h"

namespace tigon {

/// A window, alone or with what stands outside it under the same denominator.
struct FlashWindow {
  at::Tensor out;                // [N, H, D]
  at::Tensor lse;                // [H, N] float32: natural logarithm of the denominator
  at::Tensor rng_state, unused;  // what FlashAttention's backward asks for
};

struct WindowGradients {
  at::Tensor q, k, v;
};

/// Whether the kernels take these dtypes and sizes; with `wants_lse` also the gradient of lse.
bool flash_takes(const WindowAttentionCall& call, bool wants_lse);

/// The window alone, whatever sinks the call has.
FlashWindow flash_window(const WindowAttentionCall& call);

/// The gradients of the window's own q, k and v. `joint` is the window of flash_window, or its out
/// and lse after more was put under the denominator. lse_gradient [N, H] float32, of the lse that
/// the call returns, may be undefined.
WindowGradients flash_window_gradients(const WindowAttentionCall& call, const FlashWindow& joint,
                                       const at::Tensor& out_gradient,
                                       const at::Tensor& lse_gradient = {});

/// A call without its tensors, as a graph carries it to the backward pass; and the call with them.
c10::IValue keep_window_call(WindowAttentionCall call);
WindowAttentionCall kept_window_call(const c10::IValue& kept, const at::Tensor& q,
                                     const at::Tensor& k, const at::Tensor& v);

}  // namespace tigon
