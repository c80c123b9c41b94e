#include "model/decode_inputs.h"

#include <ATen/ATen.h>

namespace tigon {

bool is_decode_step(const MixerInput& input) {
  return input.rings->is_single_step() && !at::GradMode::is_enabled();
}

DecodeTokens decode_tokens(const MixerInput& input) {
  return {.q = input.q,
          .k = input.k,
          .v = input.v,
          .positions = input.batch.positions,
          .inverse_frequencies = input.rotary.inverse_frequencies,
          .rope_scale = input.rotary.scale};
}

DecodeState decode_state(const MixerInput& input, const KeyValueRing& ring,
                         const at::Tensor& matrices) {
  DecodeState state{.ring_keys = ring.keys(), .ring_values = ring.values(), .matrices = matrices};
  if (!input.rings->holds_all_slots(matrices.size(0))) state.slots = input.rings->slots();
  return state;
}

}  // namespace tigon
