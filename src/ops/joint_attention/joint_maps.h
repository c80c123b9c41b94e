// The recurrence's feature map and decay in joint_attention (its header has the formulas). ATen.
#pragma once
#include <ATen/core/Tensor.h>

namespace tigon {

/// softmax([z; −z]) of z = x w + b per head. x [N, H, D], w [H, D, D], b [H, D] → [N, H, 2D] of x's
/// dtype.
at::Tensor joint_feature_map(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b);

/// log_tau [Hkv, 2D] → log a = −1 / max(8, e^log_tau) of the given dtype, which no log_tau
/// overflows.
at::Tensor joint_log_decay(const at::Tensor& log_tau, at::ScalarType type);

}  // namespace tigon
