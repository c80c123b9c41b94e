// config.json of a Hugging Face folder, reduced to what the program needs. No Torch here.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "io/json_file.h"

namespace tigon {

/// Rotary position scaling (`rope_scaling`, or `rope_parameters` in newer files).
struct RopeConfig {
  std::string type = "default";  // default | linear | dynamic | llama3 | yarn
  double theta = 10000.0;
  double factor = 1.0;
  // llama3 and yarn: the length the model was first trained on; dynamic: the length beyond which
  // frequencies depend on the sequence (the config's max_position_embeddings)
  int64_t original_max_position_embeddings = 0;
  // llama3
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  // yarn
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  bool truncate = true;           // whole dimensions bound the blended range
  double attention_factor = 0.0;  // multiplies cos and sin; 0: follows from factor (and mscale)
  double mscale = 0.0, mscale_all_dim = 0.0;
};

struct ModelConfig {
  std::string model_type;  // a family of io/model_family.h; for a linearized folder the base's
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-5;
  double initializer_range = 0.02;
  bool tie_word_embeddings = false;
  bool has_qkv_bias = false, has_output_bias = false, has_mlp_bias = false;
  bool has_qk_norm = false;  // RMSNorm over each head of q and k, before RoPE
  // The teacher's own sliding window in each layer, in keys, the token itself included; 0: none.
  // Empty where no layer has one.
  std::vector<int64_t> layer_windows;
  RopeConfig rope;
  std::string dtype;  // as the file says: "bfloat16", …; empty if it does not
  std::vector<int64_t> bos_token_ids, eos_token_ids;
  /// The `linearize` block of a tigon folder; null for a teacher.
  Json linearize;
  /// The whole file, for writing it out again.
  Json raw;
};

/// Reads and checks DIR/config.json. Impossible values (heads that do not divide, sizes ≤ 0 or
/// absurd), unknown families, unknown activation functions and unknown rope types throw Error
/// naming the key, what was expected and what was found. Sizes must be there; for other absent keys
/// the defaults of transformers' class for the family hold. A folder that has Meta's params.json
/// instead is read as the Llama it describes.
ModelConfig read_model_config(const std::filesystem::path& folder);
/// The same on parsed JSON; `source_name` appears in errors.
ModelConfig parse_model_config(const Json& json, const std::string& source_name);
/// A config.json in Hugging Face's form for a Llama that tigon itself defines (`model: {init:
/// random, …}`). Reading it back gives the same ModelConfig.
Json llama_config_json(const ModelConfig& config);

}  // namespace tigon
