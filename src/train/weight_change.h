// How far training has moved the weights.
#pragma once
#include "train/run_parts.h"

namespace tigon {

/// ‖ΔW‖/‖W‖ (Frobenius, W as it was before training) over the linear layers that training changed,
/// by the last word of their names and for all together: {"all": 0.031, "q_proj": 0.040, …}. ΔW is
/// scale · B A of the adapters, or with `train.trainable: all` the difference to the model's
/// folder, which is read again. Null where nothing can be compared: random models, `trainable:
/// new`.
Json weight_change(const RunConfig& config, const RunParts& parts);

}  // namespace tigon
