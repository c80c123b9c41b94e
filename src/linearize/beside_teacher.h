// Running a teacher while its students look on.
#pragma once
#include <functional>

#include "model/forward.h"

namespace tigon {

/// What is done in a layer: the student's mixer, what the teacher's own attention got there, and
/// what it gave, [N, H, D].
using LayerObserver = std::function<void(const Mixer& student, const MixerInput& input,
                                         const at::Tensor& teacher_output)>;

/// Runs the model with its own mixers and without adapters over a batch, without gradients, and
/// calls `observe` in every layer with the mixer that `stack` has there.
void run_beside_teacher(const Model& model, const MixerStack& stack, const Batch& batch,
                        const LayerObserver& observe);

}  // namespace tigon
