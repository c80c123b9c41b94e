#include "eval/calibrated_mixers.h"

#include "linearize/calibrate.h"

namespace tigon {

void CalibratedMixers::prepare(const std::vector<Plan>& plans) {
  const int64_t num_layers = model_.config.num_layers;
  std::vector<MixerStack> passes;  // what is new, and elsewhere mixers with nothing to set
  std::vector<size_t> new_ones(num_layers, 0);
  for (const Plan& plan : plans) {
    MixerStack built;
    for (int64_t layer = 0; layer < num_layers; ++layer) {
      auto& mixer = mixers_[{layer, plan.window_of(layer), plan.feature_rank_of(layer)}];
      if (mixer != nullptr) continue;
      if (built.empty()) built = build_stack(plan, model_.config, model_.device);
      mixer = built[layer];
      const size_t pass = new_ones[layer]++;
      if (pass == passes.size()) passes.push_back(window_only_stack(model_.config, 1));
      passes[pass][layer] = mixer;
    }
  }
  for (const MixerStack& pass : passes) calibrate(model_, pass, rows_.batch);
}

MixerStack CalibratedMixers::stack(const Plan& plan) const {
  MixerStack stack;
  for (int64_t layer = 0; layer < model_.config.num_layers; ++layer) {
    stack.push_back(mixers_.at({layer, plan.window_of(layer), plan.feature_rank_of(layer)}));
  }
  return stack;
}

}  // namespace tigon
