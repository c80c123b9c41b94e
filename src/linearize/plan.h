// A recipe as data: which mixer each layer gets, with every number spelled out.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "core/config_reader.h"
#include "io/json_file.h"
#include "model/mixer.h"

namespace tigon {

struct Plan {
  std::string recipe = "none";                    // a file of configs/recipes
  int64_t window_keys = 64;                       // of no meaning to a recipe without a window
  std::map<int64_t, int64_t> layer_windows = {};  // window_keys of single layers, by number
  // feature_rank of single layers, where the recipe has that key.
  std::map<int64_t, int64_t> layer_feature_ranks = {};
  Json settings = Json::object();  // the recipe's own keys (linearize/recipes.h)
  // Bytes of state a sequence that a training run may spend on wider windows and features
  // (eval/state_budget.h) by setting layer_windows and layer_feature_ranks; 0: none. A plan whose
  // budget is not spent yet builds no stack.
  int64_t state_bytes = 0;
  int64_t hybrid_every = 0;  // hybrid.every: 8 = seven linearized layers, then one softmax;
                             // 0: all layers linearized
  std::vector<int64_t> softmax_layers = {};  // hybrid.layers: or these layers by number, ascending

  bool is_teacher() const { return recipe == "none"; }
  int64_t window_of(int64_t layer) const;
  /// 0 where the recipe has no feature_rank, too.
  int64_t feature_rank_of(int64_t layer) const;
  bool operator==(const Plan&) const = default;
};

/// Reads a `linearize:` section: `recipe: NAME` (defaults from configs/recipes/NAME.yaml) and any
/// key that overrides it. Only keys that the recipe uses are known.
Plan read_plan(ConfigReader& reader);
/// A recipe by name, or a YAML file that holds a plan. Throws UsageError if it is neither.
Plan load_plan(const std::string& name_or_yaml, const std::vector<std::string>& overrides = {});
/// Numbers of single layers as `{"7": 256}`.
Json layers_to_json(const std::map<int64_t, int64_t>& layers);
/// For config.json's `linearize` block and linearize.json: exactly the keys that the recipe uses.
Json plan_to_json(const Plan& plan);
/// The reverse, as strict: unknown and missing keys and wrong values throw Error naming
/// `source_name`.
Plan plan_from_json(const Json& json, const std::string& source_name);

/// The stack a plan describes; layers that stay softmax get the teacher's mixer. The parameters of
/// mixers that have some are made on `device`. Throws UsageError if the plan does not fit the
/// model.
MixerStack build_stack(const Plan& plan, const ModelConfig& config, at::Device device = at::kCPU);
/// The window-only baseline of `recovered`: this many keys in every layer.
MixerStack window_only_stack(const ModelConfig& config, int64_t window_keys);
/// The stack with every recurrence switched off; layers without one stay as they are.
MixerStack without_recurrence(const MixerStack& stack);

}  // namespace tigon
