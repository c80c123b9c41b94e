// The attention part of config.json: heads, biases, norms and the teacher's own windows.
#pragma once
#include "io/json_fields.h"
#include "io/model_config.h"
#include "io/model_family.h"

namespace tigon {

/// Fills num_heads, num_kv_heads, head_dim, the biases, has_qk_norm and layer_windows of a config
/// whose hidden_size and num_layers are known. Throws Error for values the family cannot have.
void read_attention_config(const JsonFields& fields, const ModelFamily& family,
                           ModelConfig& config);

}  // namespace tigon
