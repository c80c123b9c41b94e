// Generation with recurrent state: prefill in ragged chunks, then one token a step for all
// sequences.
#pragma once
#include <functional>
#include <vector>

#include "generate/sampling.h"
#include "model/forward.h"

namespace tigon {

struct GenerateOptions {
  int64_t max_new_tokens = 128;
  SamplingOptions sampling = {};
  uint64_t seed = 0;
  std::vector<int64_t> stop_ids = {};  // ends a sequence; not part of its output
  int64_t prefill_chunk = 2048;        // tokens of all prompts together that one forward pass takes
  bool ignore_stop = false;            // run to max_new_tokens whatever is drawn
};

struct Generation {
  std::vector<int64_t> tokens;
  bool stopped = false;  // by a stop id
};

/// Called for each new token of each sequence as it is drawn; may be empty. `sequence` counts from
/// 0.
using TokenCallback = std::function<void(int64_t sequence, int64_t token)>;

/// One generation a prompt, all in one batch. Throws Error for an empty prompt, an id outside the
/// vocabulary and logits that are not finite, UsageError for impossible options.
/// Sequence i draws from a seed of its own, made of `seed` and first_sequence + i: its text does
/// not depend on the batch it is in.
std::vector<Generation> generate(const Model& model, const MixerStack& stack,
                                 const std::vector<std::vector<int64_t>>& prompts,
                                 const GenerateOptions& options, const TokenCallback& on_token = {},
                                 int64_t first_sequence = 0);

}  // namespace tigon
