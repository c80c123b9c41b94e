#include "linearize/calibrate.h"

#include <ATen/core/grad_mode.h>

#include "linearize/beside_teacher.h"
#include "linearize/mixer_parameters.h"

namespace tigon {
void calibrate(const Model& model, const MixerStack& stack, const Batch& batch) {
  run_beside_teacher(model, stack, batch,
                     [](const Mixer& student, const MixerInput& input, const at::Tensor&) {
                       student.calibrate(input);
                     });
}

MixerStack copy_stack(const Plan& plan, const Model& model, const MixerStack& stack) {
  if (mixer_parameters(stack).empty()) return stack;
  const at::NoGradGuard no_grad;
  MixerStack copy = build_stack(plan, model.config, model.device);
  const auto from = mixer_parameters(stack), to = mixer_parameters(copy);
  for (size_t i = 0; i < to.size(); ++i) at::Tensor(to[i].second).copy_(from[i].second);
  return copy;
}

}  // namespace tigon
