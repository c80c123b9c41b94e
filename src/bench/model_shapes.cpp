#include "bench/model_shapes.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include "core/error.h"

namespace tigon {
namespace {

struct NamedShape {
  std::string name;
  int64_t hidden, intermediate, layers, heads, kv_heads, head_dim, vocabulary;
  bool is_tied;
};

const std::vector<NamedShape>& shapes() {
  static const std::vector<NamedShape> all = {
      {"1B", 2048, 8192, 16, 32, 8, 64, 128256, true},
      {"3B", 3072, 8192, 28, 24, 8, 128, 128256, true},
      {"8B", 4096, 14336, 32, 32, 8, 128, 128256, false},
      {"llama-2-7B", 4096, 11008, 32, 32, 32, 128, 32000, false},
      {"mistral-7B", 4096, 14336, 32, 32, 8, 128, 32000, false},
      {"25M", 512, 1408, 8, 8, 2, 64, 8192, true},
      {"tiny", 64, 128, 2, 4, 2, 16, 128, true},
  };
  return all;
}

}  // namespace

const std::vector<std::string>& model_shape_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const NamedShape& shape : shapes()) all.push_back(shape.name);
    return all;
  }();
  return names;
}

ModelConfig model_shape(const std::string& name) {
  for (const NamedShape& shape : shapes()) {
    if (shape.name != name) continue;
    ModelConfig config;
    config.model_type = "llama";
    config.hidden_size = shape.hidden;
    config.intermediate_size = shape.intermediate;
    config.num_layers = shape.layers;
    config.num_heads = shape.heads;
    config.num_kv_heads = shape.kv_heads;
    config.head_dim = shape.head_dim;
    config.vocab_size = shape.vocabulary;
    config.tie_word_embeddings = shape.is_tied;
    config.max_position_embeddings = 131072;
    config.rope.theta = 500000;
    config.raw = llama_config_json(config);
    return config;
  }
  throw UsageError(fmt::format("shape: expected one of {}, found '{}'",
                               fmt::join(model_shape_names(), ", "), name));
}

Model random_model_on_device(const ModelConfig& config, at::ScalarType stored,
                             at::ScalarType compute_dtype, at::Device device) {
  const at::NoGradGuard no_gradient;
  Model model;
  model.config = config;
  model.compute_dtype = compute_dtype;
  model.device = device;
  model.rotary = make_rotary(config.rope, config.head_dim, device);
  model.weights = meta_weights(config, stored);
  visit_parameters(model.weights, [&](const std::string& name, at::Tensor& parameter) {
    parameter = at::empty(parameter.sizes(), at::device(device).dtype(stored));
    if (name.ends_with("norm.weight")) {
      parameter.fill_(1);
    } else {
      parameter.normal_(0, config.initializer_range);
    }
  });
  return model;
}

}  // namespace tigon
