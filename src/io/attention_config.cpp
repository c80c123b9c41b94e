#include "io/attention_config.h"

namespace tigon {
namespace {

constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxHeadDim = 4096;
constexpr int64_t kMaxWindow = int64_t{1} << 31;

int64_t read_head_dim(const JsonFields& fields, const ModelFamily& family,
                      const ModelConfig& config) {
  const bool is_implied = !fields.has("head_dim") && family.default_head_dim == 0;
  if (is_implied && config.hidden_size % config.num_heads != 0) {
    fields.refuse("num_attention_heads",
                  fmt::format("a divisor of hidden_size {} (or a head_dim)", config.hidden_size),
                  fmt::format("{}", config.num_heads));
  }
  const int64_t fallback =
      is_implied ? config.hidden_size / config.num_heads : family.default_head_dim;
  const int64_t head_dim = fields.integer("head_dim", 1, kMaxHeadDim, fallback);
  if (head_dim % 2 != 0) {
    fields.refuse("head_dim", "an even number (rotary embeddings turn pairs)",
                  fmt::format("{}", head_dim));
  }
  return head_dim;
}

int64_t read_kv_heads(const JsonFields& fields, const ModelFamily& family, int64_t num_heads) {
  // A null means as many as query heads, whatever the family's default for an absent key is.
  const bool is_absent = !fields.json().contains("num_key_value_heads");
  const int64_t fallback =
      is_absent && family.default_kv_heads > 0 ? family.default_kv_heads : num_heads;
  const int64_t kv_heads = fields.integer("num_key_value_heads", 1, kMaxHeads, fallback);
  if (num_heads % kv_heads != 0) {
    fields.refuse("num_key_value_heads",
                  fmt::format("a divisor of num_attention_heads {}", num_heads),
                  fmt::format("{}", kv_heads));
  }
  return kv_heads;
}

void read_biases(const JsonFields& fields, const ModelFamily& family, ModelConfig& config) {
  const bool is_asked = fields.flag("attention_bias", false);
  switch (family.bias) {
    case ModelFamily::Bias::kIfConfigured:
      config.has_qkv_bias = config.has_output_bias = is_asked;
      break;
    case ModelFamily::Bias::kAlwaysQkv:
      config.has_qkv_bias = true;
      break;
    case ModelFamily::Bias::kNone:
      if (is_asked) {
        fields.refuse("attention_bias", fmt::format("false in a {}", family.model_type), "true");
      }
  }
  config.has_mlp_bias = fields.flag("mlp_bias", false);
  if (config.has_mlp_bias && !family.has_mlp_bias) {
    fields.refuse("mlp_bias", fmt::format("false in a {}", family.model_type), "true");
  }
}

/// Which layers slide, from `layer_types` or, in older files, `max_window_layers`.
std::vector<bool> read_sliding_layers(const JsonFields& fields, int64_t num_layers) {
  std::vector<bool> is_sliding;
  if (!fields.has("layer_types")) {
    const int64_t first = fields.integer("max_window_layers", 0, kMaxWindow, 28);
    for (int64_t layer = 0; layer < num_layers; ++layer) is_sliding.push_back(layer >= first);
    return is_sliding;
  }
  const Json& types = *fields.find("layer_types");
  if (!types.is_array() || static_cast<int64_t>(types.size()) != num_layers) {
    fields.refuse("layer_types", fmt::format("a list of {} names", num_layers),
                  types.is_array() ? fmt::format("{} of them", types.size()) : types.type_name());
  }
  for (const Json& type : types) {
    if (type != "full_attention" && type != "sliding_attention") {
      fields.refuse("layer_types", "full_attention or sliding_attention", type.dump());
    }
    is_sliding.push_back(type == "sliding_attention");
  }
  return is_sliding;
}

std::vector<int64_t> read_windows(const JsonFields& fields, const ModelFamily& family,
                                  int64_t num_layers) {
  if (family.window == ModelFamily::Window::kNone) return {};
  const bool is_null = fields.json().contains("sliding_window") && !fields.has("sliding_window");
  const int64_t keys =
      is_null ? 0 : fields.integer("sliding_window", 1, kMaxWindow, family.default_window);
  if (family.window == ModelFamily::Window::kEveryLayer) {
    return keys == 0 ? std::vector<int64_t>{} : std::vector<int64_t>(num_layers, keys);
  }
  const bool is_used = fields.flag("use_sliding_window", false);
  // Older files name layers that would slide but switch sliding off.
  if (!is_used && !fields.has("layer_types")) return {};
  std::vector<int64_t> windows;
  const std::vector<bool> is_sliding = read_sliding_layers(fields, num_layers);
  for (int64_t layer = 0; layer < num_layers; ++layer) {
    windows.push_back(is_sliding[layer] ? keys : 0);
    if (is_sliding[layer] && (!is_used || keys == 0)) {
      fields.refuse("layer_types", "use_sliding_window and sliding_window beside sliding_attention",
                    "none");
    }
  }
  return windows;
}

}  // namespace

void read_attention_config(const JsonFields& fields, const ModelFamily& family,
                           ModelConfig& config) {
  config.num_heads = fields.integer("num_attention_heads", 1, kMaxHeads);
  config.num_kv_heads = read_kv_heads(fields, family, config.num_heads);
  config.head_dim = read_head_dim(fields, family, config);
  config.has_qk_norm = family.has_qk_norm;
  read_biases(fields, family, config);
  config.layer_windows = read_windows(fields, family, config.num_layers);
}

}  // namespace tigon
