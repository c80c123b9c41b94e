// silu(gate) · up, the activation of Llama's MLP.
#pragma once
#include <ATen/core/Tensor.h>

namespace tigon {

/// gate and up [N, F], same dtype. Gradients: both.
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);

}  // namespace tigon
