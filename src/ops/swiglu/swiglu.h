// silu(gate) · up, the activation of Llama's MLP.
#pragma once
#include <ATen/core/Tensor.h>

namespace tigon {

/// gate and up [N, F], same dtype. Gradients: both.
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);

/// gate_up [N, 2F]: gate in the first F columns, up in the others, as one matrix product gives them
/// → [N, F]. Gradient: one [N, 2F] tensor.
at::Tensor swiglu_packed(const at::Tensor& gate_up);

}  // namespace tigon
