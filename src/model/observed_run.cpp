#include "model/observed_run.h"

#include <ATen/core/grad_mode.h>

namespace tigon {
namespace {

class ObservedMixer : public Mixer {
 public:
  ObservedMixer(std::shared_ptr<const Mixer> mixer, size_t layer, const MixerObserver& observe)
      : mixer_(std::move(mixer)), layer_(layer), observe_(observe) {}

  at::Tensor forward(const MixerInput& input, MixerState* state) const override {
    const at::Tensor out = mixer_->forward(input, state);
    observe_(layer_, input, out);
    return out;
  }
  std::unique_ptr<MixerState> make_state(int64_t slots, at::ScalarType dtype,
                                         at::Device device) const override {
    return mixer_->make_state(slots, dtype, device);
  }
  std::string kind() const override { return mixer_->kind(); }
  std::string describe() const override { return mixer_->describe(); }

 private:
  std::shared_ptr<const Mixer> mixer_;
  size_t layer_;
  const MixerObserver& observe_;
};

}  // namespace

void run_observed(const Model& model, const MixerStack& stack, const Batch& batch,
                  bool use_adapters, const MixerObserver& observe) {
  const at::NoGradGuard no_grad;
  MixerStack observed;
  for (size_t layer = 0; layer < stack.size(); ++layer) {
    observed.push_back(std::make_shared<ObservedMixer>(stack[layer], layer, observe));
  }
  forward_hidden(model, observed, batch, {.use_adapters = use_adapters});
}

}  // namespace tigon
