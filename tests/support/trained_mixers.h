// Mixers whose parameters are far from their initial values, as if trained.
#pragma once
#include <cstdint>

#include "model/mixer.h"
#include "support/compare.h"

namespace tigon::testing {

/// Adds random numbers of this size to every parameter, in place. They require no gradient.
inline void perturb_parameters(const Mixer& mixer, uint64_t seed, double size = 0.1) {
  for (const auto& [name, parameter] : mixer.parameters()) {
    parameter.add_(size * random_tensor(parameter.sizes(), ++seed));
  }
}

/// One mixer a layer from make(layer), perturbed.
template <class Make>
MixerStack trained_stack(int64_t num_layers, const Make& make) {
  MixerStack stack;
  for (int64_t layer = 0; layer < num_layers; ++layer) {
    stack.push_back(make(layer));
    perturb_parameters(*stack.back(), 900 + 100 * static_cast<uint64_t>(layer));
  }
  return stack;
}

}  // namespace tigon::testing
