// A linear layer with a low-rank adapter: y = x Wᵀ + bias + scale · (dropout(x) Aᵀ) Bᵀ.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>

namespace tigon {

/// x [N, I], weight [O, I], bias [O] or none, lora_a [R, I], lora_b [O, R], all cast to x's dtype;
/// scale = alpha / rank. dropout_mask [N, I] is already divided by the kept share, or none.
/// Gradients: x, weight, bias, lora_a, lora_b, each in its own dtype and only if it requires one. A
/// weight that does not require a gradient costs none and saves no activation for it: x (for
/// lora_a) and x Aᵀ are all that is kept.
at::Tensor lora_linear(const at::Tensor& x, const at::Tensor& weight,
                       const std::optional<at::Tensor>& bias, const at::Tensor& lora_a,
                       const at::Tensor& lora_b, double scale,
                       const std::optional<at::Tensor>& dropout_mask = std::nullopt);

/// Several such layers over one input (q, k and v; gate and up) in as few matrix products as one.
/// Layer p has O_p outputs and rank R_p: weight [ΣO_p, I] and bias [ΣO_p] or none are the layers'
/// own, one after the other; lora_a[p] [R_p, I], lora_b[p] [O_p, R_p], each list of one dtype;
/// scale and dropout_mask are shared. → [N, ΣO_p], the layers' outputs side by side.
/// Gradients and what is kept are lora_linear's, with the A's below each other and the B's as the
/// blocks of one matrix.
at::Tensor lora_linear_packed(const at::Tensor& x, const at::Tensor& weight,
                              const std::optional<at::Tensor>& bias, at::TensorList lora_a,
                              at::TensorList lora_b, double scale,
                              const std::optional<at::Tensor>& dropout_mask = std::nullopt);

}  // namespace tigon
