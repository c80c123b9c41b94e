// The needle test: a pass key hidden in prose, asked for at the end.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/rows.h"
#include "data/tokenizer.h"
#include "model/forward.h"

namespace tigon {

struct NeedleOptions {
  std::vector<int64_t> lengths = {256, 512, 1024, 2048, 4096, 8192};  // tokens, the answer included
  std::vector<double> depths = {0, 0.25, 0.5, 0.75, 1};  // of the key in the prose: 0 is its start
  int64_t trials = 8;                                    // of each length and depth
  uint64_t seed = 0;                                     // of the keys
};

/// What became of one length and depth.
struct NeedleCell {
  int64_t length = 0;
  double depth = 0;
  int64_t trials = 0;
  int64_t found = 0;          // trials in which greedy decoding would give the whole key
  double nats_per_token = 0;  // of the key's tokens
};

/// A prompt: BOS where the tokenizer adds it, prose, a sentence with the key somewhere in it, the
/// rest of the prose, the question, and the key, `length` tokens in all.
struct NeedlePrompt {
  std::vector<int64_t> tokens;
  int64_t key_tokens = 0;  // the last ones
};
/// `prose` has at least `length` tokens; `key` is a number of five digits. Throws UsageError where
/// the length has no room for the sentence and the question.
NeedlePrompt make_needle_prompt(const Tokenizer& tokenizer, const std::vector<int64_t>& prose,
                                int64_t length, double depth, int64_t key);

/// Cells by length, then depth. Trial t of every cell uses row t of the prose (again from the first
/// where there are fewer) and its own key; rows have at least as many tokens as the longest length.
std::vector<NeedleCell> needle_test(const Model& model, const MixerStack& stack, bool use_adapters,
                                    const Tokenizer& tokenizer, const RowSet& prose,
                                    const NeedleOptions& options, const std::string& title);

/// One model's cells under its name.
struct NeedleResult {
  std::string name;  // "teacher", "student"
  std::vector<NeedleCell> cells;
};
Json needle_to_json(const std::vector<NeedleResult>& results);
/// For people: share of keys found, depths down and lengths across, a table a model.
std::string needle_to_text(const std::vector<NeedleResult>& results);
/// The same as a self-contained HTML page with the cells coloured by the share found.
std::string needle_to_html(const std::vector<NeedleResult>& results);

}  // namespace tigon
