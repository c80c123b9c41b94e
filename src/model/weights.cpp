#include "model/weights.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>

#include <cmath>

#include "core/random.h"

namespace tigon {
namespace {

template <class Layer, class Visit>
void visit_layer_linears(Layer& layer, const std::string& prefix, const Visit& visit) {
  visit(prefix + "self_attn.q_proj", layer.q_proj);
  visit(prefix + "self_attn.k_proj", layer.k_proj);
  visit(prefix + "self_attn.v_proj", layer.v_proj);
  visit(prefix + "self_attn.o_proj", layer.o_proj);
  visit(prefix + "mlp.gate_proj", layer.gate_proj);
  visit(prefix + "mlp.up_proj", layer.up_proj);
  visit(prefix + "mlp.down_proj", layer.down_proj);
}

std::string layer_prefix(size_t index) {
  return fmt::format("model.layers.{}.", index);
}

template <class Weights, class Visit>
void visit_all_linears(Weights& weights, const Visit& visit) {
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    visit_layer_linears(weights.layers[i], layer_prefix(i), visit);
  }
}

template <class Layer, class Visit>
void visit_one_layer(Layer& layer, size_t index, const Visit& visit) {
  const std::string prefix = layer_prefix(index);
  visit(prefix + "input_layernorm.weight", layer.input_norm);
  visit(prefix + "post_attention_layernorm.weight", layer.post_attention_norm);
  if (layer.q_norm.defined()) visit(prefix + "self_attn.q_norm.weight", layer.q_norm);
  if (layer.k_norm.defined()) visit(prefix + "self_attn.k_norm.weight", layer.k_norm);
  visit_layer_linears(layer, prefix, [&](const std::string& name, auto& linear) {
    visit(name + ".weight", linear.weight);
    if (linear.bias.defined()) visit(name + ".bias", linear.bias);
  });
}

template <class Weights, class Visit>
void visit_all_parameters(Weights& weights, const Visit& visit) {
  visit("model.embed_tokens.weight", weights.embed_tokens);
  for (size_t i = 0; i < weights.layers.size(); ++i) visit_one_layer(weights.layers[i], i, visit);
  visit("model.norm.weight", weights.norm);
  if (!weights.is_tied) visit("lm_head.weight", weights.lm_head);
}

bool is_residual_output(const std::string& name) {
  return name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
}

}  // namespace

void visit_parameters(
    ModelWeights& weights,
    const std::function<void(const std::string& name, at::Tensor& parameter)>& visit) {
  visit_all_parameters(weights, visit);
  if (weights.is_tied) weights.lm_head = weights.embed_tokens;
}

void visit_parameters(
    const ModelWeights& weights,
    const std::function<void(const std::string& name, const at::Tensor& parameter)>& visit) {
  visit_all_parameters(weights, visit);
}

void visit_layer_parameters(
    LayerWeights& layer, int64_t index,
    const std::function<void(const std::string& name, at::Tensor& parameter)>& visit) {
  visit_one_layer(layer, static_cast<size_t>(index), visit);
}

void visit_linears(ModelWeights& weights,
                   const std::function<void(const std::string& name, Linear& linear)>& visit) {
  visit_all_linears(weights, visit);
}

void visit_linears(
    const ModelWeights& weights,
    const std::function<void(const std::string& name, const Linear& linear)>& visit) {
  visit_all_linears(weights, visit);
}

ModelWeights meta_weights(const ModelConfig& config, at::ScalarType dtype) {
  const auto tensor = [&](std::vector<int64_t> shape) {
    return at::empty(shape, at::device(at::kMeta).dtype(dtype));
  };
  const auto linear = [&](int64_t out, int64_t in, bool has_bias) {
    return Linear{.weight = tensor({out, in}), .bias = has_bias ? tensor({out}) : at::Tensor()};
  };
  const auto head_norm = [&] {
    return config.has_qk_norm ? tensor({config.head_dim}) : at::Tensor();
  };
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  const int64_t query = config.num_heads * config.head_dim;
  const int64_t key = config.num_kv_heads * config.head_dim;

  ModelWeights weights;
  weights.is_tied = config.tie_word_embeddings;
  weights.embed_tokens = tensor({config.vocab_size, hidden});
  weights.lm_head = weights.is_tied ? weights.embed_tokens : tensor({config.vocab_size, hidden});
  weights.norm = tensor({hidden});
  for (int64_t i = 0; i < config.num_layers; ++i) {
    weights.layers.push_back({.input_norm = tensor({hidden}),
                              .q_proj = linear(query, hidden, config.has_qkv_bias),
                              .k_proj = linear(key, hidden, config.has_qkv_bias),
                              .v_proj = linear(key, hidden, config.has_qkv_bias),
                              .q_norm = head_norm(),
                              .k_norm = head_norm(),
                              .o_proj = linear(hidden, query, config.has_output_bias),
                              .post_attention_norm = tensor({hidden}),
                              .gate_proj = linear(inner, hidden, config.has_mlp_bias),
                              .up_proj = linear(inner, hidden, config.has_mlp_bias),
                              .down_proj = linear(hidden, inner, config.has_mlp_bias)});
  }
  return weights;
}

ModelWeights random_weights(const ModelConfig& config, uint64_t seed, at::ScalarType dtype,
                            at::Device device) {
  ModelWeights weights = meta_weights(config, dtype);
  const double residual_scale = 1 / std::sqrt(2.0 * static_cast<double>(config.num_layers));
  visit_parameters(weights, [&](const std::string& name, at::Tensor& parameter) {
    at::Tensor values = at::empty(parameter.sizes(), at::kFloat);
    if (name.ends_with("norm.weight")) {
      values.fill_(1);
    } else if (name.ends_with(".bias")) {
      values.zero_();
    } else {
      const double deviation =
          config.initializer_range * (is_residual_output(name) ? residual_scale : 1);
      values.normal_(0, deviation, at::detail::createCPUGenerator(derive_seed(seed, name)));
    }
    parameter = values.to(device, dtype);
  });
  return weights;
}

ModelWeights clone_weights(const ModelWeights& weights) {
  ModelWeights copy = weights;
  const auto clone = [](at::Tensor& tensor) { tensor = tensor.detach().clone(); };
  visit_parameters(copy, [&](const std::string&, at::Tensor& parameter) { clone(parameter); });
  visit_linears(copy, [&](const std::string&, Linear& linear) {
    if (!linear.adapter) return;
    clone(linear.adapter->a);
    clone(linear.adapter->b);
  });
  return copy;
}

}  // namespace tigon
