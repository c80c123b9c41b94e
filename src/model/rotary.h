// Inverse frequencies of rotary position embeddings, for each scaling type.
#pragma once
#include <ATen/core/Tensor.h>

#include "io/model_config.h"

namespace tigon {

struct Rotary {
  at::Tensor inverse_frequencies;  // [D/2] float32
  double scale = 1.0;              // multiplies cos and sin
};

/// Formulas as transformers' modeling_rope_utils: default, linear (frequencies / factor), dynamic
/// (a base that grows with the longest sequence, `num_tokens`, once that exceeds the trained
/// length), llama3 (by wavelength), yarn (interpolated and kept frequencies blended by the number
/// of turns, and cos and sin scaled). Computed in double and rounded once to float32.
Rotary make_rotary(const RopeConfig& rope, int64_t head_dim, at::Device device,
                   int64_t num_tokens = 0);

/// Whether sequences of this many tokens need frequencies of their own.
bool depends_on_length(const RopeConfig& rope, int64_t num_tokens);

}  // namespace tigon
