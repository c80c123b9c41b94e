// y = x / sqrt(mean(x²) + eps) · weight, over the last dimension.
#pragma once
#include <ATen/core/Tensor.h>

namespace tigon {

/// x [N, M], weight [M] (cast to x's dtype). The statistics are float32 (float64 for float64) and
/// the normalised value is rounded to x's dtype before the weight multiplies it, as Hugging Face's
/// LlamaRMSNorm does. Gradients: x, and weight if it requires one.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

}  // namespace tigon
