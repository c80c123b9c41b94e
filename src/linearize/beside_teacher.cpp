#include "linearize/beside_teacher.h"

#include <ATen/core/grad_mode.h>

namespace tigon {
namespace {

/// A teacher's attention, and on the way an observer of it.
class ObservedMixer : public Mixer {
 public:
  ObservedMixer(std::shared_ptr<const Mixer> teacher, std::shared_ptr<const Mixer> student,
                const LayerObserver& observe)
      : teacher_(std::move(teacher)), student_(std::move(student)), observe_(observe) {}

  at::Tensor forward(const MixerInput& input, MixerState* state) const override {
    const at::Tensor out = teacher_->forward(input, state);
    observe_(*student_, input, out);
    return out;
  }
  std::unique_ptr<MixerState> make_state(int64_t slots, at::ScalarType dtype,
                                         at::Device device) const override {
    return teacher_->make_state(slots, dtype, device);
  }
  std::string kind() const override { return teacher_->kind(); }
  std::string describe() const override { return teacher_->describe(); }

 private:
  std::shared_ptr<const Mixer> teacher_, student_;
  const LayerObserver& observe_;
};

}  // namespace

void run_beside_teacher(const Model& model, const MixerStack& stack, const Batch& batch,
                        const LayerObserver& observe) {
  const at::NoGradGuard no_grad;
  MixerStack teacher = make_teacher_stack(model.config);
  for (size_t layer = 0; layer < stack.size(); ++layer) {
    teacher[layer] = std::make_shared<ObservedMixer>(teacher[layer], stack[layer], observe);
  }
  forward_hidden(model, teacher, batch, {.use_adapters = false});
}

}  // namespace tigon
