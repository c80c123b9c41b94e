// What differs between the families of models that tigon reads: one table. Everything else in
// config.json and in the forward pass is shared.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tigon {

struct ModelFamily {
  enum class Bias {
    kNone,          // no linear layer has one
    kIfConfigured,  // `attention_bias`: q, k, v and o; `mlp_bias` where the family has it
    kAlwaysQkv,     // q, k and v have one, whatever the config says
  };
  enum class Window {
    kNone,
    kEveryLayer,  // `sliding_window`; null means none, absent means `default_window`
    kPerLayer,    // `use_sliding_window` with `layer_types` or `max_window_layers`
  };

  std::string_view model_type;
  Bias bias = Bias::kNone;
  bool has_mlp_bias = false;  // whether `mlp_bias` means something
  bool has_qk_norm = false;   // RMSNorm over each head of q and k, before RoPE
  Window window = Window::kNone;
  // What transformers takes for absent keys.
  int64_t default_kv_heads = 0;  // 0: as many as query heads
  int64_t default_head_dim = 0;  // 0: hidden_size / heads
  int64_t default_positions = 2048;
  int64_t default_window = 0;
};

/// nullptr for a family that tigon does not know.
const ModelFamily* find_family(std::string_view model_type);
/// "llama, mistral, …" for messages.
std::string family_names();

}  // namespace tigon
