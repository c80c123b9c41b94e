#include "io/rope_config.h"

#include <algorithm>
#include <array>

namespace tigon {

namespace {

constexpr double kDefaultTheta = 10000.0;
constexpr int64_t kMaxPositions = int64_t{1} << 31;

std::string rope_type(const JsonFields& block) {
  const std::string type = block.text("type", "");
  const std::string newer = block.text("rope_type", "");
  if (!type.empty() && !newer.empty() && type != newer) {
    block.refuse("rope_type", "the same as \"type\", " + type, newer);
  }
  if (type.empty() && newer.empty()) return "default";
  return newer.empty() ? type : newer;
}

/// Keys tigon does not know could change the frequencies.
void refuse_unknown_keys(const JsonFields& block) {
  constexpr std::array kKnown = {
      "type",      "rope_type",       "rope_theta",       "partial_rotary_factor",
      "factor",    "low_freq_factor", "high_freq_factor", "original_max_position_embeddings",
      "beta_fast", "beta_slow",       "truncate",         "attention_factor",
      "mscale",    "mscale_all_dim"};
  for (const auto& [key, value] : block.json().items()) {
    if (value.is_null() || std::find(kKnown.begin(), kKnown.end(), key) != kKnown.end()) continue;
    block.refuse(key, fmt::format("only {}", fmt::join(kKnown, ", ")), "this key");
  }
}

void parse_llama3(const JsonFields& block, RopeConfig& rope) {
  rope.low_freq_factor = block.positive("low_freq_factor");
  rope.high_freq_factor = block.positive("high_freq_factor");
  if (rope.high_freq_factor <= rope.low_freq_factor) {
    block.refuse("high_freq_factor",
                 fmt::format("more than low_freq_factor, {}", rope.low_freq_factor),
                 fmt::format("{}", rope.high_freq_factor));
  }
  rope.original_max_position_embeddings =
      block.integer("original_max_position_embeddings", 1, kMaxPositions);
}

void parse_yarn(const JsonFields& block, int64_t max_positions, RopeConfig& rope) {
  rope.beta_fast = block.positive("beta_fast", rope.beta_fast);
  rope.beta_slow = block.positive("beta_slow", rope.beta_slow);
  if (rope.beta_fast <= rope.beta_slow) {
    block.refuse("beta_fast", fmt::format("more than beta_slow, {}", rope.beta_slow),
                 fmt::format("{}", rope.beta_fast));
  }
  rope.truncate = block.flag("truncate", true);
  if (block.has("attention_factor")) rope.attention_factor = block.positive("attention_factor");
  if (block.has("mscale")) rope.mscale = block.positive("mscale");
  if (block.has("mscale_all_dim")) rope.mscale_all_dim = block.positive("mscale_all_dim");
  rope.original_max_position_embeddings =
      block.integer("original_max_position_embeddings", 1, kMaxPositions, max_positions);
}

RopeConfig parse_block(const JsonFields& block, double theta, int64_t max_positions) {
  RopeConfig rope;
  rope.type = rope_type(block);
  rope.theta = block.positive("rope_theta", theta);
  constexpr std::array kTypes = {"default", "linear", "dynamic", "llama3", "yarn"};
  if (std::find(kTypes.begin(), kTypes.end(), rope.type) == kTypes.end()) {
    block.refuse("rope_type", fmt::format("one of {}", fmt::join(kTypes, ", ")), rope.type);
  }
  refuse_unknown_keys(block);
  if (block.positive("partial_rotary_factor", 1.0) != 1.0) {
    block.refuse("partial_rotary_factor", "1 (rotating a part of a head is not supported yet)",
                 fmt::format("{}", block.positive("partial_rotary_factor")));
  }
  if (rope.type == "default") return rope;
  rope.factor = block.positive("factor");
  if (rope.factor < 1) block.refuse("factor", "a number ≥ 1", fmt::format("{}", rope.factor));
  if (rope.type == "llama3") parse_llama3(block, rope);
  if (rope.type == "yarn") parse_yarn(block, max_positions, rope);
  if (rope.type == "dynamic") rope.original_max_position_embeddings = max_positions;
  return rope;
}

}  // namespace

RopeConfig parse_rope_config(const JsonFields& config, int64_t max_positions) {
  const double theta = config.positive("rope_theta", kDefaultTheta);
  if (config.has("rope_parameters")) {
    const JsonFields block = config.object("rope_parameters");
    const RopeConfig rope = parse_block(block, theta, max_positions);
    if (config.has("rope_theta") && theta != rope.theta) {
      config.refuse("rope_theta", fmt::format("the same as in rope_parameters, {}", rope.theta),
                    fmt::format("{}", theta));
    }
    if (config.has("rope_scaling") && *config.find("rope_scaling") != block.json()) {
      config.refuse("rope_scaling", "nothing beside rope_parameters, or the same", "another");
    }
    return rope;
  }
  if (config.has("rope_scaling")) {
    return parse_block(config.object("rope_scaling"), theta, max_positions);
  }
  return {.theta = theta};
}

void write_rope_config(const RopeConfig& rope, Json& json) {
  json["rope_theta"] = rope.theta;
  if (rope.type == "default") {
    json["rope_scaling"] = nullptr;
    return;
  }
  Json& block = json["rope_scaling"] = {{"rope_type", rope.type}, {"factor", rope.factor}};
  if (rope.type == "llama3") {
    block["low_freq_factor"] = rope.low_freq_factor;
    block["high_freq_factor"] = rope.high_freq_factor;
  }
  if (rope.type == "yarn") {
    block["beta_fast"] = rope.beta_fast;
    block["beta_slow"] = rope.beta_slow;
    block["truncate"] = rope.truncate;
    if (rope.attention_factor > 0) block["attention_factor"] = rope.attention_factor;
    if (rope.mscale > 0) block["mscale"] = rope.mscale;
    if (rope.mscale_all_dim > 0) block["mscale_all_dim"] = rope.mscale_all_dim;
  }
  if (rope.type == "llama3" || rope.type == "yarn") {
    block["original_max_position_embeddings"] = rope.original_max_position_embeddings;
  }
}

}  // namespace tigon
