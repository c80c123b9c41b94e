// Reading prompts into a state.
#pragma once
#include <vector>

#include "model/forward.h"

namespace tigon {

/// Reads prompt i into slot i of `state`, in forward passes of at most `chunk` tokens of all
/// prompts together: short prompts share a pass, a long one is spread over several. Returns the
/// logits after each prompt's last token, [S, V] float32.
at::Tensor prefill(const Model& model, const MixerStack& stack,
                   const std::vector<std::vector<int64_t>>& prompts, int64_t chunk,
                   ModelState& state);

}  // namespace tigon
