// What each recipe adds to the keys that all recipes share: its own keys, and the mixer they make.
#pragma once
#include <memory>
#include <string_view>

#include "core/config_reader.h"
#include "io/json_file.h"
#include "model/mixer.h"

namespace tigon {

/// What a mixer is built for, beside the numbers of its recipe.
struct MixerSizes {
  HeadShape heads;
  int64_t hidden_size = 0;
  at::Device device = at::kCPU;  // of the mixer's own parameters
  int64_t layer = 0;
};

struct Recipe {
  std::string_view name;
  /// Reads the recipe's own keys, all of them required; → Plan::settings, with the same keys.
  Json (*read_settings)(ConfigReader& reader);
  /// A mixer with parameters serves one layer.
  std::shared_ptr<const Mixer> (*make_mixer)(const MixerSizes& sizes, int64_t window_keys,
                                             const Json& settings);
  bool has_window = true;         // whether window_keys and layer_windows are keys of it
  bool has_matrices = true;       // whether state_dtype is one
  bool has_feature_rank = false;  // whether feature_rank, a setting, can differ by layer
};

/// Of the key feature_rank.
Range feature_rank_range();
/// What state_dtype says of a recipe's recurrent matrices.
at::ScalarType state_dtype(const Json& settings);

/// Throws std::logic_error for a name that is not a linearizing recipe's.
const Recipe& find_recipe(std::string_view name);

}  // namespace tigon
