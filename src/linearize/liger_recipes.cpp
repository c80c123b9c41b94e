// The recipes of Liger's family but liger-gla, which has an op of its own.
#include "linearize/recipe_families.h"
#include "model/liger_mixer.h"

namespace tigon {
namespace {

/// What all of the family have. The source and pooling of a gate are fixed: the keys say what the
/// numbers act on.
Json family_settings(ConfigReader& reader, const char* gate_pool) {
  Json settings;
  settings["gate_source"] = reader.choice("gate_source", {"k"});
  settings["gate_pool"] = reader.choice("gate_pool", {gate_pool});
  settings["gate_normalizer"] = reader.number("gate_normalizer", above(0));
  settings["mix"] = reader.number("mix", between(0, 1));
  return settings;
}

Json settings_per_channel(ConfigReader& reader) {
  return family_settings(reader, "none");
}

Json settings_per_head(ConfigReader& reader) {
  return family_settings(reader, "head");
}

Json hgrn2_settings(ConfigReader& reader) {
  Json settings = family_settings(reader, "none");
  settings["lower_bound"] = reader.number("lower_bound", between(0, 1));
  if (settings["lower_bound"] == 1) reader.problem("lower_bound", "expected below 1, found 1");
  return settings;
}

Json gsa_settings(ConfigReader& reader) {
  Json settings = family_settings(reader, "slots");
  settings["slots"] = reader.integer("slots", between(1, 1 << 16));
  return settings;
}

LigerMixerOptions family_options(LigerVariant variant, int64_t window_keys, const Json& settings) {
  return {.variant = variant,
          .window_keys = window_keys,
          .gate_normalizer = settings.at("gate_normalizer").get<double>(),
          .mix = settings.at("mix").get<double>(),
          .state_dtype = state_dtype(settings)};
}

template <LigerVariant variant>
std::shared_ptr<const Mixer> make_mixer(const MixerSizes& sizes, int64_t window_keys,
                                        const Json& settings) {
  return make_liger_mixer(sizes.heads, family_options(variant, window_keys, settings));
}

std::shared_ptr<const Mixer> make_hgrn2_mixer(const MixerSizes& sizes, int64_t window_keys,
                                              const Json& settings) {
  LigerMixerOptions options = family_options(LigerVariant::kHgrn2, window_keys, settings);
  options.lower_bound = settings.at("lower_bound").get<double>();
  return make_liger_mixer(sizes.heads, options);
}

std::shared_ptr<const Mixer> make_gsa_mixer(const MixerSizes& sizes, int64_t window_keys,
                                            const Json& settings) {
  LigerMixerOptions options = family_options(LigerVariant::kGsa, window_keys, settings);
  options.slots = settings.at("slots").get<int64_t>();
  const int64_t D = sizes.heads.head_dim;
  if (D % options.slots != 0 && options.slots % D != 0) {
    throw UsageError(fmt::format(
        "slots: expected a number that divides the head size {} or is a multiple of it, found {}",
        D, options.slots));
  }
  return make_liger_mixer(sizes.heads, options);
}

}  // namespace

constinit const Recipe kLigerHgrn2Recipe = {"liger-hgrn2", hgrn2_settings, make_hgrn2_mixer};
constinit const Recipe kLigerGsaRecipe = {"liger-gsa", gsa_settings, make_gsa_mixer};
constinit const Recipe kLigerMamba2Recipe = {"liger-mamba2", settings_per_head,
                                             make_mixer<LigerVariant::kMamba2>};
constinit const Recipe kLigerMlstmRecipe = {"liger-mlstm", settings_per_head,
                                            make_mixer<LigerVariant::kMlstm>};
constinit const Recipe kLigerRetentionRecipe = {"liger-retention", settings_per_head,
                                                make_mixer<LigerVariant::kRetention>};
constinit const Recipe kLigerRwkv6Recipe = {"liger-rwkv6", settings_per_channel,
                                            make_mixer<LigerVariant::kRwkv6>};

}  // namespace tigon
