#include "linearize/plan.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <string_view>

#include "embedded/recipes.h"
#include "linearize/recipes.h"

namespace tigon {
namespace {

// A function, so that plans may be read while other files' globals are made.
Range window_keys_range() {
  return between(1, 1 << 20);
}

std::string recipe_file(const std::string& recipe) {
  return recipe + ".yaml";
}

bool is_recipe(const std::string& name) {
  return !embedded::recipes(recipe_file(name)).empty();
}

std::string list_recipes() {
  std::string list;
  for (const std::string_view file : embedded::recipes_names()) {
    list += list.empty() ? "" : ", ";
    list += file.substr(0, file.rfind(".yaml"));
  }
  return list;
}

/// Why a name is not a recipe.
std::string refusal(const std::string& name) {
  return fmt::format("expected a recipe ({}), found \"{}\"", list_recipes(), name);
}

void read_hybrid(ConfigReader reader, Plan& plan) {
  plan.hybrid_every = reader.integer("every", 0, at_least(0));
  plan.softmax_layers = reader.integers("layers", {}, at_least(0));
  if (plan.hybrid_every == 1) {
    reader.problem("every", "expected 0 (no softmax layer) or at least 2, found 1");
  }
  if (plan.hybrid_every > 0 && !plan.softmax_layers.empty()) {
    reader.problem("layers", "expected either every or layers, found both");
  }
  std::ranges::sort(plan.softmax_layers);
  const auto repeated = std::ranges::adjacent_find(plan.softmax_layers);
  if (repeated != plan.softmax_layers.end()) {
    reader.problem("layers", fmt::format("layer {} is listed twice", *repeated));
  }
}

/// `{7: 256}`: numbers of single layers.
std::map<int64_t, int64_t> read_layers(ConfigReader reader, const Range& range) {
  std::map<int64_t, int64_t> layers;
  for (const std::string& key : reader.keys()) {
    const int64_t number = reader.integer(key, range);
    int64_t layer = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), layer);
    if (error != std::errc() || end != key.data() + key.size() || layer < 0) {
      reader.problem(key, "expected the number of a layer, counted from 0");
    } else if (!layers.emplace(layer, number).second) {
      reader.problem(key, fmt::format("layer {} is listed twice", layer));
    }
  }
  return layers;
}

/// The keys that a recipe uses; all but state_bytes and state_dtype are required.
Plan read_keys(ConfigReader& reader, const std::string& name) {
  Plan plan;
  plan.recipe = name;
  if (plan.is_teacher()) return plan;
  const Recipe& recipe = find_recipe(name);
  if (recipe.has_window) plan.window_keys = reader.integer("window_keys", window_keys_range());
  plan.settings = recipe.read_settings(reader);
  if (recipe.has_matrices) {
    // Folders written before the key existed lack it.
    plan.settings["state_dtype"] = reader.choice("state_dtype", {"float32", "bfloat16"}, "float32");
  }
  if (recipe.has_window) {
    plan.layer_windows = read_layers(reader.section("layer_windows"), window_keys_range());
    plan.state_bytes = reader.integer("state_bytes", 0, at_least(0));
  }
  if (recipe.has_feature_rank && reader.has("layer_feature_ranks")) {
    plan.layer_feature_ranks =
        read_layers(reader.section("layer_feature_ranks"), feature_rank_range());
  }
  read_hybrid(reader.section("hybrid"), plan);
  return plan;
}

/// Records why a recipe cannot be read (an empty name already is a problem of its own). The other
/// keys then count as known: one mistake gives one problem.
void refuse(ConfigReader& reader, const std::string& recipe) {
  if (!recipe.empty()) reader.problem("recipe", refusal(recipe));
  for (const std::string& key : reader.keys()) {
    if (!reader.has(key) || reader.is_scalar(key)) continue;
    const ConfigReader section = reader.section(key);
    for (const std::string& inner : section.keys()) section.has(inner);
  }
}

ConfigReader shipped_recipe(std::string_view file) {
  return ConfigReader::from_text(std::string(embedded::recipes(file)), std::string(file));
}

/// Refuses keys that this recipe lacks and others have, as a config for one recipe has them that is
/// tried with another.
void refuse_keys_of_others(ConfigReader& reader, const std::string& recipe) {
  const ConfigReader own = shipped_recipe(recipe_file(recipe));
  for (const std::string& key : reader.keys()) {
    if (own.has(key)) continue;
    std::vector<std::string> others;
    for (const std::string_view file : embedded::recipes_names()) {
      if (shipped_recipe(file).has(key)) {
        others.emplace_back(file.substr(0, file.rfind(".yaml")));
      }
    }
    if (others.empty() || !reader.has(key)) continue;
    constexpr size_t kMost = 3;
    const size_t more = others.size() - std::min(others.size(), kMost);
    others.resize(others.size() - more);
    reader.problem(
        key, fmt::format("recipe {} has no such key, {}{} {}", recipe, fmt::join(others, ", "),
                         more > 0 ? fmt::format(" and {} more", more) : "",
                         others.size() + more > 1 ? "have" : "has"));
  }
}

/// The layers that keep softmax attention, as flags.
std::vector<bool> softmax_flags(const Plan& plan, int64_t num_layers) {
  std::vector<bool> is_softmax(num_layers, false);
  for (const int64_t layer : plan.softmax_layers) {
    if (layer >= num_layers) {
      throw UsageError(
          fmt::format("hybrid.layers: expected layers below {}, found {}", num_layers, layer));
    }
    is_softmax[layer] = true;
  }
  if (plan.hybrid_every > num_layers) {
    throw UsageError(fmt::format("hybrid.every: expected at most the model's {} layers, found {}",
                                 num_layers, plan.hybrid_every));
  }
  if (plan.hybrid_every > 0) {
    for (int64_t layer = plan.hybrid_every - 1; layer < num_layers; layer += plan.hybrid_every) {
      is_softmax[layer] = true;
    }
  }
  if (std::ranges::find(is_softmax, false) == is_softmax.end()) {
    throw UsageError(
        "hybrid.layers: every layer would keep softmax attention; recipe none says so");
  }
  return is_softmax;
}

/// Refuses numbers of layers that there are not, or that keep softmax attention and have no `what`.
void check_layers(const char* key, const char* what, const std::map<int64_t, int64_t>& layers,
                  const std::vector<bool>& is_softmax) {
  for (const auto& [layer, number] : layers) {
    if (layer >= static_cast<int64_t>(is_softmax.size())) {
      throw UsageError(
          fmt::format("{}: expected layers below {}, found {}", key, is_softmax.size(), layer));
    }
    if (is_softmax[layer]) {
      throw UsageError(fmt::format("{}: layer {} keeps softmax attention (hybrid) and has no {}",
                                   key, layer, what));
    }
  }
}

int64_t number_of(const std::map<int64_t, int64_t>& layers, int64_t layer, int64_t others) {
  const auto found = layers.find(layer);
  return found == layers.end() ? others : found->second;
}

}  // namespace

int64_t Plan::window_of(int64_t layer) const {
  return number_of(layer_windows, layer, window_keys);
}

int64_t Plan::feature_rank_of(int64_t layer) const {
  return number_of(layer_feature_ranks, layer, settings.value("feature_rank", int64_t{0}));
}

Plan read_plan(ConfigReader& reader) {
  const std::string recipe = reader.text("recipe", "none");
  if (!is_recipe(recipe)) {
    refuse(reader, recipe);
    return {};
  }
  const std::string file = recipe_file(recipe);
  reader.inherit(std::string(embedded::recipes(file)), "configs/recipes/" + file);
  refuse_keys_of_others(reader, recipe);
  return read_keys(reader, recipe);
}

Plan load_plan(const std::string& name_or_yaml, const std::vector<std::string>& overrides) {
  const std::filesystem::path path = name_or_yaml;
  const bool is_yaml = path.extension() == ".yaml" || path.extension() == ".yml";
  if (!is_recipe(name_or_yaml) && !is_yaml) {
    throw UsageError("--recipe: " + refusal(name_or_yaml) + ", or a YAML file that holds a plan");
  }
  ConfigReader reader = is_yaml ? ConfigReader::from_file(path, overrides)
                                : ConfigReader::from_text("recipe: " + name_or_yaml,
                                                          "recipe " + name_or_yaml, overrides);
  Plan plan = read_plan(reader);
  reader.finish();
  return plan;
}

Json layers_to_json(const std::map<int64_t, int64_t>& layers) {
  Json json = Json::object();
  for (const auto& [layer, number] : layers) json[std::to_string(layer)] = number;
  return json;
}

Json plan_to_json(const Plan& plan) {
  Json json;
  json["recipe"] = plan.recipe;
  if (plan.is_teacher()) return json;
  const Recipe& recipe = find_recipe(plan.recipe);
  if (recipe.has_window) json["window_keys"] = plan.window_keys;
  json.update(plan.settings);
  if (recipe.has_window) json["layer_windows"] = layers_to_json(plan.layer_windows);
  if (recipe.has_feature_rank) {
    json["layer_feature_ranks"] = layers_to_json(plan.layer_feature_ranks);
  }
  json["hybrid"] = {{"every", plan.hybrid_every}, {"layers", plan.softmax_layers}};
  return json;
}

Plan plan_from_json(const Json& json, const std::string& source_name) {
  if (!json.is_object()) {
    fail("{}: expected an object that describes the mixers, found {}", source_name,
         json.type_name());
  }
  try {
    // JSON is YAML, so the strict reader serves here too.
    ConfigReader reader = ConfigReader::from_text(json.dump(), source_name);
    const std::string recipe = reader.text("recipe");
    Plan plan;
    if (is_recipe(recipe)) {
      plan = read_keys(reader, recipe);
    } else {
      refuse(reader, recipe);
    }
    reader.finish();
    return plan;
  } catch (const UsageError& error) {
    // The file came with a model: it is data, not a command line.
    throw Error(error.what());
  }
}

MixerStack build_stack(const Plan& plan, const ModelConfig& config, at::Device device) {
  MixerStack stack = make_teacher_stack(config);
  if (plan.is_teacher()) return stack;
  if (plan.state_bytes > 0) {
    throw UsageError(
        "state_bytes: windows are chosen by tigon train, which has text to try them on");
  }
  const std::vector<bool> is_softmax = softmax_flags(plan, config.num_layers);
  check_layers("layer_windows", "window", plan.layer_windows, is_softmax);
  check_layers("layer_feature_ranks", "features", plan.layer_feature_ranks, is_softmax);
  const Recipe& recipe = find_recipe(plan.recipe);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    if (is_softmax[layer]) continue;
    const MixerSizes sizes{head_shape(config), config.hidden_size, device, layer};
    Json settings = plan.settings;
    if (recipe.has_feature_rank) settings["feature_rank"] = plan.feature_rank_of(layer);
    stack[layer] = recipe.make_mixer(sizes, plan.window_of(layer), settings);
  }
  return stack;
}

MixerStack window_only_stack(const ModelConfig& config, int64_t window_keys) {
  return MixerStack(config.num_layers,
                    make_window_mixer(head_shape(config), {.window_keys = window_keys}));
}

MixerStack without_recurrence(const MixerStack& stack) {
  MixerStack windows = stack;
  for (auto& mixer : windows) {
    if (auto window = mixer->without_recurrence()) mixer = window;
  }
  return windows;
}

}  // namespace tigon
