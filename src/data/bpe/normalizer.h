// What is done to a text before it is split: the `normalizer` of a tokenizer.json.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/bpe/regex.h"

namespace tigon {

/// Changes valid UTF-8 in place; what comes out is valid too. Safe to call from several threads.
using NormalizerStep = std::function<void(std::string& text)>;

class Normalizer {
 public:
  void add(NormalizerStep step) { steps_.push_back(std::move(step)); }
  bool is_empty() const { return steps_.empty(); }
  void apply(std::string& text) const {
    for (const NormalizerStep& step : steps_) step(text);
  }

 private:
  std::vector<NormalizerStep> steps_;
};

/// "NFC", "NFD", "NFKC" or "NFKD". Throws Error if ICU does not have its data.
NormalizerStep unicode_form_step(std::string_view form);
/// Puts a text before a text that is not empty.
NormalizerStep prepend_step(std::string text);
/// Puts `content` in the place of every match.
NormalizerStep replace_step(Regex regex, std::string content);
/// Every character by itself in lower case, whatever stands beside it.
NormalizerStep lowercase_step();

/// `text` with `content` in the place of every match of `regex`. Throws Error if that makes more
/// than 1 GiB.
std::string replace_matches(std::string_view text, const Regex& regex, std::string_view content);

}  // namespace tigon
