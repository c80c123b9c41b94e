#include "model/packed_linears.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "ops/lora_linear/lora_linear.h"

namespace tigon {
namespace {

bool is_behind(const at::Tensor& weight, const at::Tensor& next) {
  return next.is_alias_of(weight) && next.scalar_type() == weight.scalar_type() &&
         next.storage_offset() == weight.storage_offset() + weight.numel();
}

/// [Σ out, in] where the weights are frozen and lie behind each other, else undefined.
at::Tensor packed_weight(const std::vector<const Linear*>& linears) {
  int64_t rows = 0;
  for (size_t i = 0; i < linears.size(); ++i) {
    const at::Tensor& weight = linears[i]->weight;
    if (weight.requires_grad() || !weight.is_contiguous()) return {};
    if (i > 0 && !is_behind(linears[i - 1]->weight, weight)) return {};
    rows += weight.size(0);
  }
  const at::Tensor& first = linears[0]->weight;
  return first.as_strided({rows, first.size(1)}, {first.size(1), 1});
}

/// One after the other, or none where no layer has one; `is_mixed` where only some have.
struct PackedBias {
  std::optional<at::Tensor> bias;
  bool is_mixed = false;
};
PackedBias packed_bias(const std::vector<const Linear*>& linears, at::ScalarType type) {
  std::vector<at::Tensor> biases;
  for (const Linear* linear : linears) {
    if (linear->bias.defined()) biases.push_back(linear->bias.to(type));
  }
  if (biases.empty()) return {};
  if (biases.size() != linears.size()) return {.bias = {}, .is_mixed = true};
  return {.bias = at::cat(biases)};
}

/// Whether the adapters, where they are used, can be one: all layers have one, of one scale, and
/// none draws a dropout mask of its own.
bool adapters_fit(const std::vector<const Linear*>& linears, bool has_dropout) {
  return std::all_of(linears.begin(), linears.end(), [&](const Linear* linear) {
    return linear->adapter && linear->adapter->scale == linears[0]->adapter->scale &&
           (linear->adapter->dropout == 0 || !has_dropout);
  });
}

void pack(const std::vector<Linear*>& linears) {
  std::vector<at::Tensor> weights;
  for (const Linear* linear : linears) {
    if (linear->weight.requires_grad() || linear->weight.is_meta()) return;
    weights.push_back(linear->weight);
  }
  const at::Tensor packed = at::cat(weights);
  int64_t row = 0;
  for (Linear* linear : linears) {
    const int64_t rows = linear->weight.size(0);
    linear->weight = packed.narrow(0, row, rows);
    row += rows;
  }
}

}  // namespace

at::Tensor forward_packed(const std::vector<const Linear*>& linears, const at::Tensor& x,
                          bool use_adapters,
                          const std::optional<at::Generator>& dropout_generator) {
  const at::Tensor weight = packed_weight(linears);
  if (!weight.defined()) return {};
  const PackedBias bias = packed_bias(linears, x.scalar_type());
  if (bias.is_mixed) return {};
  const bool has_adapters =
      use_adapters && std::any_of(linears.begin(), linears.end(),
                                  [](const Linear* linear) { return linear->adapter.has_value(); });
  if (!has_adapters) return at::linear(x, weight.to(x.scalar_type()), bias.bias);
  if (!adapters_fit(linears, dropout_generator.has_value())) return {};
  std::vector<at::Tensor> a, b;
  for (const Linear* linear : linears) {
    a.push_back(linear->adapter->a);
    b.push_back(linear->adapter->b);
  }
  return lora_linear_packed(x, weight.to(x.scalar_type()), bias.bias, a, b,
                            linears[0]->adapter->scale);
}

std::vector<at::Tensor> forward_together(const std::vector<const Linear*>& linears,
                                         const at::Tensor& x, bool use_adapters,
                                         const std::optional<at::Generator>& dropout_generator) {
  const at::Tensor packed = forward_packed(linears, x, use_adapters, dropout_generator);
  std::vector<int64_t> sizes;
  for (const Linear* linear : linears) sizes.push_back(linear->weight.size(0));
  if (packed.defined()) return packed.split_with_sizes(sizes, 1);
  std::vector<at::Tensor> results;
  for (const Linear* linear : linears) {
    results.push_back(linear->forward(x, use_adapters, dropout_generator));
  }
  return results;
}

void pack_linears(ModelWeights& weights) {
  const at::NoGradGuard no_gradient;
  for (LayerWeights& layer : weights.layers) {
    pack({&layer.q_proj, &layer.k_proj, &layer.v_proj});
    pack({&layer.gate_proj, &layer.up_proj});
  }
}

}  // namespace tigon
