#include "linearize/beside_teacher.h"

#include "model/observed_run.h"

namespace tigon {

void run_beside_teacher(const Model& model, const MixerStack& stack, const Batch& batch,
                        const LayerObserver& observe) {
  run_observed(model, make_teacher_stack(model.config), batch, /*use_adapters=*/false,
               [&](size_t layer, const MixerInput& input, const at::Tensor& out) {
                 observe(*stack[layer], input, out);
               });
}

}  // namespace tigon
