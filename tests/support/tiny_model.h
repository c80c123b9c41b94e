// A tiny random Llama for tests, in memory and as a Hugging Face folder.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "core/random.h"
#include "io/json_file.h"
#include "io/model_config.h"
#include "model/forward.h"
#include "model/tensor_io.h"
#include "support/compare.h"
#include "support/trained_mixers.h"

namespace tigon::testing {

/// 2 query heads share each KV head; the wide initial values make attention, gates and logits far
/// from uniform.
inline ModelConfig tiny_config(int64_t num_layers = 2, bool tie_word_embeddings = false) {
  ModelConfig config;
  config.model_type = "llama";
  config.vocab_size = 97;
  config.hidden_size = 48;
  config.intermediate_size = 80;
  config.num_layers = num_layers;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 16;
  config.max_position_embeddings = 512;
  config.initializer_range = 0.2;
  config.tie_word_embeddings = tie_word_embeddings;
  config.dtype = "float32";
  config.bos_token_ids = {1};
  config.eos_token_ids = {2};
  config.raw = llama_config_json(config);
  return config;
}

/// The model of a config on the test device, with random weights.
inline Model random_model(const ModelConfig& config, uint64_t seed = 1,
                          at::ScalarType dtype = at::kFloat) {
  Model model;
  model.config = config;
  model.device = test_device();
  model.compute_dtype = dtype;
  model.weights = random_weights(config, seed, dtype, model.device);
  model.rotary = make_rotary(config.rope, config.head_dim, model.device);
  return model;
}

inline Model tiny_model(uint64_t seed = 1, at::ScalarType dtype = at::kFloat) {
  return random_model(tiny_config(), seed, dtype);
}

/// Random token ids of a vocabulary.
inline std::vector<int64_t> random_tokens(int64_t count, int64_t vocab_size, uint64_t seed) {
  Random random(seed);
  std::vector<int64_t> tokens(count);
  for (int64_t& token : tokens) {
    token = static_cast<int64_t>(random.below(static_cast<uint64_t>(vocab_size)));
  }
  return tokens;
}

/// A tigon mixer a layer with short decay times and parameters that are far from their initial
/// values, as if trained. They require no gradient.
inline MixerStack trained_tigon_stack(const ModelConfig& config, int64_t window_keys,
                                      int64_t feature_rank = 0) {
  return trained_stack(config.num_layers, [&](int64_t) {
    return make_tigon_mixer(
        head_shape(config), config.hidden_size,
        {.window_keys = window_keys, .decay_time = 12, .feature_rank = feature_rank},
        test_device());
  });
}

/// Writes config.json and model.safetensors into an existing folder. No tokenizer.
inline void write_model_folder(const Model& model, const std::filesystem::path& folder) {
  write_json_file(folder / "config.json", llama_config_json(model.config));
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  visit_parameters(model.weights, [&](const std::string& name, const at::Tensor& parameter) {
    tensors.emplace_back(name, parameter);
  });
  save_tensors(folder / "model.safetensors", tensors, {{"format", "pt"}});
}

}  // namespace tigon::testing
