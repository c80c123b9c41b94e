// y = x / sqrt(mean(x²) + eps) · weight, over the last dimension, alone or after a residual sum.
#pragma once
#include <ATen/core/Tensor.h>

namespace tigon {

/// x [N, M], weight [M] (cast to x's dtype). The statistics are float32 (float64 for float64) and
/// the normalised value is rounded to x's dtype before the weight multiplies it, as Hugging Face's
/// LlamaRMSNorm does. Gradients: x, and weight if it requires one.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

struct AddRmsNormResult {
  at::Tensor sum;     // [N, M] x + residual, of x's dtype
  at::Tensor normed;  // [N, M] rms_norm(sum, weight, eps)
};

/// A residual connection and the norm after it: x and residual [N, M] of one dtype, weight [M].
/// Gradients: x and residual (the same one), and weight if it requires one.
AddRmsNormResult add_rms_norm(const at::Tensor& x, const at::Tensor& residual,
                              const at::Tensor& weight, double eps);

}  // namespace tigon
