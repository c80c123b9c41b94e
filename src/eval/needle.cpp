#include "eval/needle.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/progress.h"
#include "core/random.h"
#include "ops/linear_cross_entropy/linear_cross_entropy.h"

namespace tigon {
namespace {

constexpr const char* kSentence = "The pass key is {0}. Remember it: {0} is the pass key.";
constexpr const char* kQuestion = "What is the pass key? The pass key is";

using Ids = std::vector<int32_t>;

void append(std::vector<int64_t>& tokens, const Ids& ids, size_t first = 0) {
  tokens.insert(tokens.end(), ids.begin() + static_cast<std::ptrdiff_t>(first), ids.end());
}

/// Where two lists of ids part.
size_t common_length(const Ids& a, const Ids& b) {
  const auto [end, unused] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<size_t>(end - a.begin());
}

struct Score {
  bool is_found = false;
  double nats = 0;  // summed over the key's tokens
};

Score score(const Model& model, const MixerStack& stack, bool use_adapters,
            const NeedlePrompt& prompt) {
  const at::NoGradGuard no_grad;
  const Batch batch = make_batch({prompt.tokens}, model.device);
  const at::Tensor hidden = forward_hidden(model, stack, batch, {.use_adapters = use_adapters});
  const int64_t length = static_cast<int64_t>(prompt.tokens.size()), count = prompt.key_tokens;
  const at::Tensor logits = logits_of(model, hidden.narrow(0, length - count - 1, count));
  const at::Tensor key = batch.tokens.narrow(0, length - count, count);
  Score result;
  result.is_found = logits.argmax(-1).equal(key);
  result.nats = -logits.log_softmax(-1).gather(1, key.unsqueeze(1)).sum().item<double>();
  return result;
}

}  // namespace

NeedlePrompt make_needle_prompt(const Tokenizer& tokenizer, const std::vector<int64_t>& prose,
                                int64_t length, double depth, int64_t key) {
  const std::string question = kQuestion;
  const Ids sentence = tokenizer.encode(fmt::format(kSentence, key));
  const Ids asked = tokenizer.encode(question);
  const Ids answered = tokenizer.encode(fmt::format("{} {}", question, key));
  const bool has_bos = tokenizer.adds_bos() && tokenizer.bos_id().has_value();
  const auto other = static_cast<int64_t>(sentence.size() + answered.size() + (has_bos ? 1 : 0));
  const int64_t room = length - other;
  if (room < 1) {
    throw UsageError(fmt::format(
        "needle: expected lengths of at least {} tokens, which the sentence and the question take, "
        "found {}",
        other + 1, length));
  }
  const int64_t before = std::llround(depth * static_cast<double>(room));
  NeedlePrompt prompt;
  if (has_bos) prompt.tokens.push_back(*tokenizer.bos_id());
  prompt.tokens.insert(prompt.tokens.end(), prose.begin(), prose.begin() + before);
  append(prompt.tokens, sentence);
  prompt.tokens.insert(prompt.tokens.end(), prose.begin() + before, prose.begin() + room);
  append(prompt.tokens, answered);
  prompt.key_tokens = static_cast<int64_t>(answered.size() - common_length(answered, asked));
  return prompt;
}

std::vector<NeedleCell> needle_test(const Model& model, const MixerStack& stack, bool use_adapters,
                                    const Tokenizer& tokenizer, const RowSet& prose,
                                    const NeedleOptions& options, const std::string& title) {
  const int64_t longest = *std::ranges::max_element(options.lengths);
  if (prose.options().seq_len < longest) {
    throw UsageError(fmt::format("needle: expected rows of at least {} tokens of prose, found {}",
                                 longest, prose.options().seq_len));
  }
  const auto cells = static_cast<int64_t>(options.lengths.size() * options.depths.size());
  Progress progress(title, cells * options.trials, "prompts");
  std::vector<NeedleCell> results;
  int64_t done = 0;
  for (const int64_t length : options.lengths) {
    for (const double depth : options.depths) {
      NeedleCell cell{.length = length, .depth = depth, .trials = options.trials};
      int64_t key_tokens = 0;
      for (int64_t trial = 0; trial < options.trials; ++trial) {
        Random random(derive_seed(options.seed, fmt::format("needle {}", trial)));
        const auto key = static_cast<int64_t>(10000 + random.below(90000));
        const NeedlePrompt prompt = make_needle_prompt(
            tokenizer, prose.row(trial % prose.size()).tokens, length, depth, key);
        const Score found = score(model, stack, use_adapters, prompt);
        cell.found += found.is_found ? 1 : 0;
        cell.nats_per_token += found.nats;
        key_tokens += prompt.key_tokens;
        progress.update(++done, fmt::format("{} tokens", length));
      }
      cell.nats_per_token /= static_cast<double>(std::max<int64_t>(key_tokens, 1));
      results.push_back(cell);
    }
  }
  progress.finish();
  return results;
}

}  // namespace tigon
