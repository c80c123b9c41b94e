// The rotary part of config.json, in its two spellings.
#pragma once
#include <string>

#include "io/json_fields.h"
#include "io/model_config.h"

namespace tigon {

/// Reads `rope_theta` with `rope_scaling` (older files) or `rope_parameters` (newer ones);
/// `max_positions` is the config's max_position_embeddings.
RopeConfig parse_rope_config(const JsonFields& config, int64_t max_positions);
/// The older spelling, which every version of transformers reads: rope_theta and rope_scaling.
void write_rope_config(const RopeConfig& rope, Json& json);

}  // namespace tigon
