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

}  // namespace tigon
