// Rotary position embedding, half-split form (Hugging Face's rotate_half).
#pragma once
#include <ATen/core/Tensor.h>

namespace tigon {

/// x [N, H, D]; positions [N] int64; inverse_frequencies [D/2] float32. Angles, cos and sin are
/// float32 whatever the dtype (float64 for float64); scale multiplies cos and sin. The result is
/// rounded once, to x's dtype. Gradient: x.
at::Tensor rope(const at::Tensor& x, const at::Tensor& positions,
                const at::Tensor& inverse_frequencies, double scale = 1.0);

}  // namespace tigon
