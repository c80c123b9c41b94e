// params.json, the config of Meta's own Llama releases.
#pragma once
#include <string>

#include "io/json_file.h"

namespace tigon {

/// The same model as a Hugging Face config.json. The feed-forward size follows from dim,
/// ffn_dim_multiplier and multiple_of as in Meta's code: 2/3 of 4·dim, times the multiplier,
/// rounded up to a multiple. params.json does not say how long sequences may be: 8192 positions are
/// written for the Llama 3 vocabulary, 4096 for others. Throws Error naming key, expected and
/// found.
Json llama_config_of_meta_params(const Json& params, const std::string& source_name);

}  // namespace tigon
