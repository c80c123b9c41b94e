#include "io/model_family.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

namespace tigon {
namespace {

using Bias = ModelFamily::Bias;
using Window = ModelFamily::Window;

constexpr std::array<ModelFamily, 4> kFamilies = {{
    {.model_type = "llama", .bias = Bias::kIfConfigured, .has_mlp_bias = true},
    {.model_type = "mistral",
     .window = Window::kEveryLayer,
     .default_kv_heads = 8,
     .default_positions = 131072,
     .default_window = 4096},
    {.model_type = "qwen2",
     .bias = Bias::kAlwaysQkv,
     .window = Window::kPerLayer,
     .default_kv_heads = 32,
     .default_positions = 32768,
     .default_window = 4096},
    {.model_type = "qwen3",
     .bias = Bias::kIfConfigured,
     .has_qk_norm = true,
     .window = Window::kPerLayer,
     .default_kv_heads = 32,
     .default_head_dim = 128,
     .default_positions = 32768,
     .default_window = 4096},
}};

}  // namespace

const ModelFamily* find_family(std::string_view model_type) {
  const auto* found = std::ranges::find(kFamilies, model_type, &ModelFamily::model_type);
  return found == kFamilies.end() ? nullptr : found;
}

std::string family_names() {
  std::vector<std::string_view> names;
  for (const ModelFamily& family : kFamilies) names.push_back(family.model_type);
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace tigon
