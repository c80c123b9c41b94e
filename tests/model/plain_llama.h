// A Llama teacher written the plainest way, one sequence at a time: the oracle of the model folder
// in any precision.
#pragma once
#include <cstdint>
#include <vector>

#include "model/forward.h"

namespace tigon::testing {

/// Logits [T, V] of one sequence, computed in `dtype` throughout (statistics, softmax and angles in
/// float32 at least). window_keys 0: full attention. Adapters and mixers play no part.
at::Tensor plain_logits(const Model& model, const std::vector<int64_t>& tokens,
                        at::ScalarType dtype, int64_t window_keys = 0);

}  // namespace tigon::testing
