// How far a tensor is from what it should be.
#pragma once
#include <ATen/core/Tensor.h>

namespace tigon {

/// rms(found − expected) / rms(expected), in float64; 0 where both are zero throughout, NaN where a
/// value is NaN, infinity where shapes differ.
double relative_rms(const at::Tensor& found, const at::Tensor& expected);

}  // namespace tigon
