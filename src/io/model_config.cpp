#include "io/model_config.h"

#include "core/dtype.h"
#include "core/error.h"
#include "io/attention_config.h"
#include "io/json_fields.h"
#include "io/llama2c.h"
#include "io/meta_params.h"
#include "io/model_family.h"
#include "io/rope_config.h"

namespace tigon {

namespace {

namespace fs = std::filesystem;

// Far above any model, low enough that products of two sizes and an element's bytes fit into 63
// bits.
constexpr int64_t kMaxSize = int64_t{1} << 24;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxPositions = int64_t{1} << 31;

/// The family whose weights the folder holds; a linearized folder names it as its base.
const ModelFamily& read_family(const JsonFields& fields) {
  const std::string model_type = fields.text("model_type");
  const bool is_linearized = model_type == "tigon";
  const std::string key = is_linearized ? "base_model_type" : "model_type";
  const std::string name = fields.text(key);
  const ModelFamily* const family = find_family(name);
  if (family == nullptr) {
    fail("{}: the family {} is not supported ({} are)", fields.name_of(key), name, family_names());
  }
  if (is_linearized && !fields.has("linearize")) {
    fields.refuse("linearize", "the block that says how the model was linearized", "nothing");
  }
  if (!is_linearized && fields.has("linearize")) {
    fields.refuse("linearize", "no such block beside model_type " + name, "one");
  }
  return *family;
}

/// What a config may say but tigon does not compute.
void refuse_unsupported(const JsonFields& fields) {
  const std::string activation = fields.text("hidden_act", "silu");
  if (activation != "silu") {
    fields.refuse("hidden_act", "silu (others are not supported yet)", activation);
  }
  if (fields.has("quantization_config")) {
    fields.refuse("quantization_config", "none (quantized weights are not supported yet)", "one");
  }
}

std::string read_dtype(const JsonFields& fields) {
  const std::string key = fields.has("dtype") ? "dtype" : "torch_dtype";
  const std::string dtype = fields.text(key, "");
  if (!dtype.empty() && !dtype_from_name(dtype)) {
    fields.refuse(key, "float32, bfloat16 or float16", dtype);
  }
  return dtype;
}

}  // namespace

ModelConfig parse_model_config(const Json& json, const std::string& source_name) {
  const JsonFields fields(json, source_name);
  ModelConfig config;
  const ModelFamily& family = read_family(fields);
  config.model_type = family.model_type;
  refuse_unsupported(fields);
  config.vocab_size = fields.integer("vocab_size", 1, kMaxSize);
  config.hidden_size = fields.integer("hidden_size", 1, kMaxSize);
  config.intermediate_size = fields.integer("intermediate_size", 1, kMaxSize);
  config.num_layers = fields.integer("num_hidden_layers", 1, kMaxLayers);
  config.max_position_embeddings =
      fields.integer("max_position_embeddings", 1, kMaxPositions, family.default_positions);
  read_attention_config(fields, family, config);
  config.rms_norm_eps = fields.positive("rms_norm_eps", 1e-6);
  if (config.rms_norm_eps >= 1) {
    fields.refuse("rms_norm_eps", "a number < 1", fmt::format("{}", config.rms_norm_eps));
  }
  config.initializer_range = fields.positive("initializer_range", 0.02);
  config.tie_word_embeddings = fields.flag("tie_word_embeddings", false);
  config.rope = parse_rope_config(fields, config.max_position_embeddings);
  config.dtype = read_dtype(fields);
  config.bos_token_ids = fields.integers("bos_token_id", 0, config.vocab_size - 1);
  config.eos_token_ids = fields.integers("eos_token_id", 0, config.vocab_size - 1);
  if (fields.has("linearize")) config.linearize = fields.object("linearize").json();
  config.raw = json;
  return config;
}

ModelConfig read_model_config(const fs::path& folder) {
  if (!fs::is_directory(folder)) {
    fail("{}: expected a model folder, found {}", folder.string(),
         fs::exists(folder) ? "a file" : "nothing");
  }
  const fs::path path = folder / "config.json";
  if (fs::exists(path)) return parse_model_config(read_json_file(path), path.string());
  if (const fs::path params = folder / "params.json"; fs::exists(params)) {
    return parse_model_config(llama_config_of_meta_params(read_json_file(params), params.string()),
                              params.string());
  }
  if (const auto file = find_llama2c_model(folder)) {
    return parse_model_config(Llama2cFile(*file).config_json(), file->string());
  }
  fail("{}: expected a model folder in Hugging Face's form, found no config.json", folder.string());
}

Json llama_config_json(const ModelConfig& config) {
  const auto ids = [](const std::vector<int64_t>& values) {
    if (values.empty()) return Json(nullptr);
    return values.size() == 1 ? Json(values[0]) : Json(values);
  };
  Json json = {
      {"architectures", {"LlamaForCausalLM"}},
      {"model_type", "llama"},
      {"vocab_size", config.vocab_size},
      {"hidden_size", config.hidden_size},
      {"intermediate_size", config.intermediate_size},
      {"num_hidden_layers", config.num_layers},
      {"num_attention_heads", config.num_heads},
      {"num_key_value_heads", config.num_kv_heads},
      {"head_dim", config.head_dim},
      {"hidden_act", "silu"},
      {"attention_bias", false},
      {"mlp_bias", false},
      {"max_position_embeddings", config.max_position_embeddings},
      {"rms_norm_eps", config.rms_norm_eps},
      {"initializer_range", config.initializer_range},
      {"tie_word_embeddings", config.tie_word_embeddings},
      {"bos_token_id", ids(config.bos_token_ids)},
      {"eos_token_id", ids(config.eos_token_ids)},
  };
  write_rope_config(config.rope, json);
  if (!config.dtype.empty()) json["torch_dtype"] = config.dtype;
  return json;
}

}  // namespace tigon
