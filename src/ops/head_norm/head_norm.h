// Each head of each token brought to mean 0 and variance 1: SUPRA's norm of its output.
#pragma once
#include <ATen/core/Tensor.h>

namespace tigon {

/// (x − mean) / √(variance + eps) over the last dimension; the variance is the mean of (x − mean)².
/// x [N, H, D] floating; the result has its shape and dtype. No weight and no bias. Statistics run
/// in float32 (float64 for float64), and the result is rounded once. Gradient: x.
at::Tensor head_norm(const at::Tensor& x, double eps);

}  // namespace tigon
