#include "generate/generate.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "generate/prefill.h"
#include "model/decode_batch.h"

namespace tigon {
namespace {

void check_arguments(const Model& model, const std::vector<std::vector<int64_t>>& prompts,
                     const GenerateOptions& options) {
  check_sampling_options(options.sampling);
  if (options.max_new_tokens < 1) {
    throw UsageError(
        fmt::format("max_new_tokens: expected at least 1, found {}", options.max_new_tokens));
  }
  if (options.prefill_chunk < 1) {
    throw UsageError(
        fmt::format("prefill_chunk: expected at least 1, found {}", options.prefill_chunk));
  }
  const int64_t vocab_size = model.config.vocab_size;
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (prompts[i].empty()) fail("prompt {}: expected at least one token, found none", i);
    for (const int64_t id : prompts[i]) {
      if (id < 0 || id >= vocab_size) {
        fail("prompt {}: expected token ids from 0 to {}, found {}", i, vocab_size - 1, id);
      }
    }
  }
}

/// Sequences in the batch: their slots, and their random numbers in the same order.
struct Running {
  std::vector<int64_t> slots;
  std::vector<Random> randoms;
};

Running start_all(size_t num_prompts, uint64_t seed, int64_t first_sequence) {
  Running running;
  for (size_t i = 0; i < num_prompts; ++i) {
    const int64_t number = first_sequence + static_cast<int64_t>(i);
    running.slots.push_back(static_cast<int64_t>(i));
    running.randoms.emplace_back(derive_seed(seed, fmt::format("sequence {}", number)));
  }
  return running;
}

/// Rows of the batch whose sequence has not stopped.
std::vector<int64_t> unfinished_rows(const Running& running, const std::vector<Generation>& all) {
  std::vector<int64_t> rows;
  for (size_t row = 0; row < running.slots.size(); ++row) {
    if (!all[running.slots[row]].stopped) rows.push_back(static_cast<int64_t>(row));
  }
  return rows;
}

Running keep_rows(const Running& running, const std::vector<int64_t>& rows) {
  Running kept;
  for (const int64_t row : rows) {
    kept.slots.push_back(running.slots[row]);
    kept.randoms.push_back(running.randoms[row]);
  }
  return kept;
}

/// Adds the drawn ids [S] (on the host) to their sequences; one that drew a stop id takes no more.
void collect(const at::Tensor& ids, const Running& running, const GenerateOptions& options,
             const TokenCallback& on_token, std::vector<Generation>& all) {
  const int64_t* const drawn = ids.data_ptr<int64_t>();
  for (size_t row = 0; row < running.slots.size(); ++row) {
    const int64_t sequence = running.slots[row];
    Generation& generation = all[sequence];
    if (generation.stopped) continue;
    if (drawn[row] < 0) {
      fail("the logits of sequence {} are not finite after {} new tokens", sequence,
           generation.tokens.size());
    }
    generation.stopped =
        !options.ignore_stop && std::ranges::count(options.stop_ids, drawn[row]) > 0;
    if (generation.stopped) continue;
    generation.tokens.push_back(drawn[row]);
    if (on_token) on_token(sequence, drawn[row]);
  }
}

}  // namespace

std::vector<Generation> generate(const Model& model, const MixerStack& stack,
                                 const std::vector<std::vector<int64_t>>& prompts,
                                 const GenerateOptions& options, const TokenCallback& on_token,
                                 int64_t first_sequence) {
  check_arguments(model, prompts, options);
  const at::NoGradGuard no_grad;
  std::vector<Generation> all(prompts.size());
  if (prompts.empty()) return all;

  ModelState state(stack, static_cast<int64_t>(prompts.size()), model.compute_dtype, model.device);
  const auto longest = std::ranges::max(
      prompts, {}, [](const std::vector<int64_t>& prompt) { return prompt.size(); });
  // The last token drawn is never read.
  state.reserve(static_cast<int64_t>(longest.size()) + options.max_new_tokens - 1);

  Running running = start_all(prompts.size(), options.seed, first_sequence);
  at::Tensor logits = prefill(model, stack, prompts, options.prefill_chunk, state);
  Batch batch = make_decode_batch(running.slots, state, model.device);
  for (int64_t step = 0; step < options.max_new_tokens; ++step) {
    at::Tensor ids = sample(logits, options.sampling, running.randoms);
    at::Tensor host_ids = ids.cpu();
    collect(host_ids, running, options, on_token, all);
    if (step + 1 == options.max_new_tokens) break;
    // Leaving costs a new batch, so stopped sequences leave when they are an eighth of it.
    const std::vector<int64_t> rows = unfinished_rows(running, all);
    if (rows.empty()) break;
    if (rows.size() * 8 <= running.slots.size() * 7) {
      const at::Tensor kept = at::tensor(rows, at::kLong);
      ids = ids.index_select(0, kept.to(model.device));
      host_ids = host_ids.index_select(0, kept);
      running = keep_rows(running, rows);
      batch = make_decode_batch(running.slots, state, model.device);
    }
    batch.tokens = ids;
    batch.host_tokens = host_ids;
    logits = logits_of(model, forward_hidden(model, stack, batch, {.state = &state}));
    advance_decode_batch(batch);
  }
  return all;
}

}  // namespace tigon
