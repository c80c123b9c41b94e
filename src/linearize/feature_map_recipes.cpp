// The recipes with learned feature maps: supra and lolcats.
#include <cmath>

#include "linearize/recipe_choices.h"
#include "linearize/recipe_families.h"
#include "model/lolcats_mixer.h"
#include "model/supra_mixer.h"

namespace tigon {
namespace {

using Supra = SupraMixerOptions;
constexpr Choices<Supra::Maps, 2> kSupraMaps = {
    {{"across_heads", Supra::Maps::kAcrossHeads}, {"per_head", Supra::Maps::kPerHead}}};
constexpr Choices<Supra::Init, 2> kSupraInits = {
    {{"published", Supra::Init::kPublished}, {"identity", Supra::Init::kIdentity}}};
constexpr Choices<Supra::Decay, 4> kSupraDecays = {{{"published", Supra::Decay::kPublished},
                                                    {"retention", Supra::Decay::kRetention},
                                                    {"none", Supra::Decay::kNone},
                                                    {"learned", Supra::Decay::kLearned}}};
constexpr Choices<Supra::Normalizer, 3> kSupraNormalizers = {
    {{"group_norm", Supra::Normalizer::kGroupNorm},
     {"denominator", Supra::Normalizer::kDenominator},
     {"both", Supra::Normalizer::kBoth}}};

using Lolcats = LolcatsMixerOptions;
constexpr Choices<Lolcats::WindowForm, 2> kWindowForms = {
    {{"terrace", Lolcats::WindowForm::kTerrace}, {"sliding", Lolcats::WindowForm::kSliding}}};
constexpr Choices<Lolcats::FeatureMap, 2> kFeatureMaps = {
    {{"hedgehog", Lolcats::FeatureMap::kHedgehog}, {"t2r", Lolcats::FeatureMap::kT2r}}};
constexpr Choices<Lolcats::Init, 2> kLolcatsInits = {
    {{"identity", Lolcats::Init::kIdentity}, {"kaiming", Lolcats::Init::kKaiming}}};
constexpr Choices<bool, 2> kKeyMaps = {{{"query_heads", true}, {"kv_heads", false}}};

/// Like every key of a recipe it must be there.
bool read_flag(ConfigReader& reader, const char* key) {
  return reader.choice(key, {"true", "false"}) == "true";
}

Json supra_settings(ConfigReader& reader) {
  Json settings;
  settings["maps"] = read_choice(reader, "maps", kSupraMaps);
  settings["map_init"] = read_choice(reader, "map_init", kSupraInits);
  settings["seed"] = reader.integer("seed", at_least(0));
  settings["decay"] = read_choice(reader, "decay", kSupraDecays);
  settings["normalizer"] = read_choice(reader, "normalizer", kSupraNormalizers);
  settings["affine"] = read_flag(reader, "affine");
  settings["norm_eps"] = reader.number("norm_eps", above(0));
  if (settings["affine"] == true && settings["normalizer"] == "denominator") {
    reader.problem("affine", "expected false with normalizer: denominator, which has no norm");
  }
  return settings;
}

std::shared_ptr<const Mixer> make_supra(const MixerSizes& sizes, int64_t /*window_keys*/,
                                        const Json& settings) {
  return make_supra_mixer(sizes.heads,
                          {.init = chosen(settings, "map_init", kSupraInits),
                           .maps = chosen(settings, "maps", kSupraMaps),
                           .decay = chosen(settings, "decay", kSupraDecays),
                           .normalizer = chosen(settings, "normalizer", kSupraNormalizers),
                           .has_affine = settings.at("affine").get<bool>(),
                           .norm_eps = settings.at("norm_eps").get<double>(),
                           .seed = layer_seed(settings, sizes),
                           .state_dtype = state_dtype(settings)},
                          sizes.device);
}

Json lolcats_settings(ConfigReader& reader) {
  Json settings;
  settings["window_form"] = read_choice(reader, "window_form", kWindowForms);
  settings["feature_map"] = read_choice(reader, "feature_map", kFeatureMaps);
  settings["feature_dim"] = reader.integer("feature_dim", between(1, 1 << 16));
  settings["map_init"] = read_choice(reader, "map_init", kLolcatsInits);
  settings["seed"] = reader.integer("seed", at_least(0));
  settings["key_maps"] = read_choice(reader, "key_maps", kKeyMaps);
  settings["window_factor"] = reader.number("window_factor", between(0, 1));
  if (settings["window_factor"] == 0 || settings["window_factor"] == 1) {
    reader.problem("window_factor", "expected above 0 and below 1");
  }
  settings["affine_factors"] = read_flag(reader, "affine_factors");
  return settings;
}

std::shared_ptr<const Mixer> make_lolcats(const MixerSizes& sizes, int64_t window_keys,
                                          const Json& settings) {
  const double g = settings.at("window_factor").get<double>();
  return make_lolcats_mixer(sizes.heads,
                            {.feature_map = chosen(settings, "feature_map", kFeatureMaps),
                             .feature_dim = settings.at("feature_dim").get<int64_t>(),
                             .init = chosen(settings, "map_init", kLolcatsInits),
                             .window_form = chosen(settings, "window_form", kWindowForms),
                             .window_keys = window_keys,
                             .has_key_map_per_query = chosen(settings, "key_maps", kKeyMaps),
                             .window_logit = std::log(g / (1 - g)),
                             .has_affine_factors = settings.at("affine_factors").get<bool>(),
                             .seed = layer_seed(settings, sizes),
                             .state_dtype = state_dtype(settings)},
                            sizes.device);
}

}  // namespace

constinit const Recipe kSupraRecipe = {"supra", supra_settings, make_supra, /*has_window=*/false};
constinit const Recipe kLolcatsRecipe = {"lolcats", lolcats_settings, make_lolcats};

}  // namespace tigon
