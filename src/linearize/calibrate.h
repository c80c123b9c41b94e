// What mixers read from their teacher before they are trained.
#pragma once
#include "linearize/plan.h"
#include "model/forward.h"

namespace tigon {

/// Runs the teacher (the model with its own mixers, without adapters) over a batch and shows every
/// mixer of `stack` what the teacher's attention gets in its layer: Mixer::calibrate. Mixers with
/// nothing to set stay as they are.
void calibrate(const Model& model, const MixerStack& stack, const Batch& batch);

/// A second stack of the same mixers whose parameters share no storage with the first's; `plan` is
/// what the stack was built from.
MixerStack copy_stack(const Plan& plan, const Model& model, const MixerStack& stack);

}  // namespace tigon
