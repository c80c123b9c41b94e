// The batches of decoding: one token for each of a state's sequences, step after step.
#pragma once
#include <vector>

#include "model/batch.h"
#include "model/state.h"

namespace tigon {

/// A batch that continues these slots by a token each, still without its tokens: the caller sets
/// `tokens` and `host_tokens` [S]. From step to step only they and the positions change, so the
/// same batch serves until a sequence leaves.
Batch make_decode_batch(const std::vector<int64_t>& slots, const ModelState& state,
                        at::Device device);

/// To the next step: every sequence is one token longer.
void advance_decode_batch(Batch& batch);

}  // namespace tigon
