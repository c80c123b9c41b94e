// The loss of a model as it is served: token by token from its state.
#pragma once
#include <cstdint>
#include <string>

#include "eval/perplexity.h"

namespace tigon {

/// evaluate_loss with every token read in a forward pass of its own, from and into a ModelState: so
/// a state that is rounded between tokens counts as it is. `rows_per_batch` rows are read side by
/// side, each segment of theirs in a slot. Takes as many passes as the longest segment has tokens;
/// counts, progress and errors are those of evaluate_loss.
LossResult evaluate_decode_loss(const Model& model, const MixerStack& stack, const RowSet& rows,
                                int64_t rows_per_batch, bool use_adapters,
                                const std::string& title);

}  // namespace tigon
