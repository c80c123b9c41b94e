#include "model/linear.h"

#include <ATen/ATen.h>

#include "ops/lora_linear/lora_linear.h"

namespace tigon {
namespace {

/// 1/(1−p) where an element is kept and 0 where it is dropped.
at::Tensor draw_dropout_mask(const at::Tensor& x, double p, const at::Generator& generator) {
  return at::empty_like(x, x.options().requires_grad(false))
      .bernoulli_(1 - p, generator)
      .div_(1 - p);
}

}  // namespace

at::Tensor Linear::forward(const at::Tensor& x, bool use_adapter,
                           const std::optional<at::Generator>& dropout_generator) const {
  const at::Tensor cast_weight = weight.to(x.scalar_type());
  std::optional<at::Tensor> cast_bias;
  if (bias.defined()) cast_bias = bias.to(x.scalar_type());
  if (!use_adapter || !adapter) return at::linear(x, cast_weight, cast_bias);

  std::optional<at::Tensor> mask;
  if (adapter->dropout > 0 && dropout_generator) {
    mask = draw_dropout_mask(x, adapter->dropout, *dropout_generator);
  }
  return lora_linear(x, cast_weight, cast_bias, adapter->a, adapter->b, adapter->scale, mask);
}

}  // namespace tigon
