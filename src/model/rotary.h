// Inverse frequencies of rotary position embeddings, for each scaling type.
#pragma once
#include <ATen/core/Tensor.h>

#include "io/model_config.h"

namespace tigon {

struct Rotary {
  at::Tensor inverse_frequencies;  // [D/2] float32
  double scale = 1.0;              // multiplies cos and sin
};

/// Formulas as transformers' modeling_rope_utils: default, linear (frequencies / factor), llama3
/// (by wavelength). Computed in double and rounded once to float32.
Rotary make_rotary(const RopeConfig& rope, int64_t head_dim, at::Device device);

}  // namespace tigon
