// A forward pass while something looks at what each layer's mixer gets and gives.
#pragma once
#include <functional>

#include "model/forward.h"

namespace tigon {

/// Called in every layer, with what the mixer got there and gave, [N, H, D].
using MixerObserver =
    std::function<void(size_t layer, const MixerInput& input, const at::Tensor& out)>;

/// Runs the model with the mixers of `stack` over a batch, without gradients.
void run_observed(const Model& model, const MixerStack& stack, const Batch& batch,
                  bool use_adapters, const MixerObserver& observe);

}  // namespace tigon
