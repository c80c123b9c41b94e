// The recipe liger-ablation.
#include "linearize/recipe_choices.h"
#include "linearize/recipe_families.h"
#include "model/liger_ablation_mixer.h"

namespace tigon {
namespace {

using Options = LigerAblationMixerOptions;
using GateSource = Options::GateSource;
using FeatureMap = Options::FeatureMap;

constexpr Choices<GateSource, 5> kGateSources = {{{"k", GateSource::kKeys},
                                                  {"q", GateSource::kQueries},
                                                  {"v", GateSource::kValues},
                                                  {"learned", GateSource::kLearned},
                                                  {"none", GateSource::kNone}}};
constexpr Choices<FeatureMap, 5> kFeatureMaps = {{{"softmax", FeatureMap::kSoftmax},
                                                  {"none", FeatureMap::kNone},
                                                  {"relu", FeatureMap::kRelu},
                                                  {"elu", FeatureMap::kElu},
                                                  {"hedgehog", FeatureMap::kHedgehog}}};
constexpr Choices<Options::Init, 2> kMapInits = {
    {{"identity", Options::Init::kIdentity}, {"random", Options::Init::kRandom}}};

Json read_settings(ConfigReader& reader) {
  Json settings;
  settings["gate_source"] = read_choice(reader, "gate_source", kGateSources);
  settings["gate_normalizer"] = reader.number("gate_normalizer", above(0));
  settings["feature_map"] = read_choice(reader, "feature_map", kFeatureMaps);
  settings["map_init"] = read_choice(reader, "map_init", kMapInits);
  settings["seed"] = reader.integer("seed", at_least(0));
  settings["mix"] = reader.number("mix", between(0, 1));
  return settings;
}

std::shared_ptr<const Mixer> make_mixer(const MixerSizes& sizes, int64_t window_keys,
                                        const Json& settings) {
  return make_liger_ablation_mixer(sizes.heads,
                                   {.gate_source = chosen(settings, "gate_source", kGateSources),
                                    .feature_map = chosen(settings, "feature_map", kFeatureMaps),
                                    .map_init = chosen(settings, "map_init", kMapInits),
                                    .seed = layer_seed(settings, sizes),
                                    .window_keys = window_keys,
                                    .gate_normalizer = settings.at("gate_normalizer").get<double>(),
                                    .mix = settings.at("mix").get<double>(),
                                    .state_dtype = state_dtype(settings)},
                                   sizes.device);
}

}  // namespace

constinit const Recipe kLigerAblationRecipe = {"liger-ablation", read_settings, make_mixer};

}  // namespace tigon
