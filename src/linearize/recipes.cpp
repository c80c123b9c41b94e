#include "linearize/recipes.h"

#include <algorithm>
#include <array>
#include <stdexcept>

#include "linearize/recipe_families.h"

namespace tigon {
namespace {

Json no_settings(ConfigReader&) {
  return Json::object();
}

}  // namespace

Range feature_rank_range() {
  return between(0, 1 << 10);
}

namespace {

std::shared_ptr<const Mixer> window(const MixerSizes& sizes, int64_t window_keys, const Json&) {
  return make_window_mixer(sizes.heads, {.window_keys = window_keys});
}

Json liger_gla_settings(ConfigReader& reader) {
  Json settings;
  settings["gate_source"] = reader.choice("gate_source", {"k"});
  settings["gate_pool"] = reader.choice("gate_pool", {"none"});
  settings["gate_normalizer"] = reader.number("gate_normalizer", above(0));
  settings["mix"] = reader.number("mix", between(0, 1));
  return settings;
}

std::shared_ptr<const Mixer> liger_gla(const MixerSizes& sizes, int64_t window_keys,
                                       const Json& settings) {
  return make_liger_gla_mixer(sizes.heads,
                              {.window_keys = window_keys,
                               .gate_normalizer = settings.at("gate_normalizer").get<double>(),
                               .mix = settings.at("mix").get<double>(),
                               .state_dtype = state_dtype(settings)});
}

Json tigon_settings(ConfigReader& reader) {
  Json settings;
  settings["decay_time"] = reader.number("decay_time", above(0));
  // Folders written before the key existed lack it.
  settings["feature_rank"] = reader.integer("feature_rank", 0, feature_rank_range());
  return settings;
}

std::shared_ptr<const Mixer> tigon_joint(const MixerSizes& sizes, int64_t window_keys,
                                         const Json& settings) {
  const auto feature_rank = settings.at("feature_rank").get<int64_t>();
  if (feature_rank > sizes.heads.head_dim) {
    throw UsageError(
        fmt::format("feature_rank: expected at most the {} numbers of a head, found {}",
                    sizes.heads.head_dim, feature_rank));
  }
  return make_tigon_mixer(sizes.heads, sizes.hidden_size,
                          {.window_keys = window_keys,
                           .decay_time = settings.at("decay_time").get<double>(),
                           .feature_rank = feature_rank,
                           .state_dtype = state_dtype(settings)},
                          sizes.device);
}

Json window_sinks_settings(ConfigReader& reader) {
  return {{"sinks", reader.integer("sinks", between(1, 1 << 20))}};
}

std::shared_ptr<const Mixer> window_sinks(const MixerSizes& sizes, int64_t window_keys,
                                          const Json& settings) {
  return make_window_mixer(
      sizes.heads, {.window_keys = window_keys, .sinks = settings.at("sinks").get<int64_t>()});
}

constexpr Recipe kWindowRecipe = {
    .name = "window", .read_settings = no_settings, .make_mixer = window, .has_matrices = false};
constexpr Recipe kWindowSinksRecipe = {.name = "window-sinks",
                                       .read_settings = window_sinks_settings,
                                       .make_mixer = window_sinks,
                                       .has_matrices = false};
constexpr Recipe kLigerGlaRecipe = {"liger-gla", liger_gla_settings, liger_gla};
constexpr Recipe kTigonRecipe = {.name = "tigon",
                                 .read_settings = tigon_settings,
                                 .make_mixer = tigon_joint,
                                 .has_feature_rank = true};

constexpr std::array kRecipes = {&kWindowRecipe,        &kWindowSinksRecipe,    &kLigerGlaRecipe,
                                 &kLigerHgrn2Recipe,    &kLigerGsaRecipe,       &kLigerMamba2Recipe,
                                 &kLigerMlstmRecipe,    &kLigerRetentionRecipe, &kLigerRwkv6Recipe,
                                 &kLigerAblationRecipe, &kSupraRecipe,          &kLolcatsRecipe,
                                 &kTigonRecipe};

}  // namespace

at::ScalarType state_dtype(const Json& settings) {
  return settings.at("state_dtype") == "bfloat16" ? at::kBFloat16 : at::kFloat;
}

const Recipe& find_recipe(std::string_view name) {
  const auto found =
      std::ranges::find(kRecipes, name, [](const Recipe* recipe) { return recipe->name; });
  if (found == kRecipes.end()) throw std::logic_error("no recipe " + std::string(name));
  return **found;
}

}  // namespace tigon
