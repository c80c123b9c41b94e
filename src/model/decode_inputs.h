// A mixer's input as the ops of a decode step (ops/liger_decode, ops/joint_decode) take it.
#pragma once
#include "model/key_value_ring.h"
#include "ops/decode_step/decode_step.h"

namespace tigon {

/// Whether those ops serve the batch: every segment has exactly one token and no gradient is
/// recorded.
bool is_decode_step(const MixerInput& input);

DecodeTokens decode_tokens(const MixerInput& input);
/// The batch's slots of a mixer's ring and matrices [slots, Hkv, …].
DecodeState decode_state(const MixerInput& input, const KeyValueRing& ring,
                         const at::Tensor& matrices);

}  // namespace tigon
