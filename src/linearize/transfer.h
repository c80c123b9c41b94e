// Attention transfer: mixers learn to give what the teacher's attention gives for the same inputs.
#pragma once
#include "model/forward.h"

namespace tigon {

/// Runs the teacher (the model with its own mixers, without adapters) over a batch. In every layer
/// whose mixer in `stack` has parameters that require a gradient, that mixer gets the teacher's
/// inputs too; E is the mean over these layers of the mean squared difference of the two outputs
/// [N, H, D], before o_proj, in float32. Adds weight · dE to the parameters' gradients, layer by
/// layer, so that one layer's intermediate values are alive at a time. → E, a scalar float32
/// without gradient. Throws Error if no mixer has such parameters.
at::Tensor transfer_backward(const Model& model, const MixerStack& stack, const Batch& batch,
                             double weight);

}  // namespace tigon
