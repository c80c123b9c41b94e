#include "support/tiny_tokenizer.h"

#include <fmt/format.h>
#include <sentencepiece_trainer.h>

#include <iterator>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "core/random.h"

namespace tigon::testing {
namespace {

class LineIterator final : public sentencepiece::SentenceIterator {
 public:
  explicit LineIterator(const std::string& text) {
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) lines_.push_back(line);
  }
  bool done() const override { return next_ >= lines_.size(); }
  void Next() override { ++next_; }
  const std::string& value() const override { return lines_[next_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  std::vector<std::string> lines_;
  size_t next_ = 0;
};

}  // namespace

std::string train_tiny_tokenizer(const TinyTokenizerOptions& options) {
  LineIterator lines(tiny_text(3000, 1));
  const std::string arguments = fmt::format(
      "--model_type={} --normalization_rule_name={} --vocab_size={} --byte_fallback={} "
      "--bos_id={} --hard_vocab_limit=false --character_coverage=1.0 --num_threads=1 "
      "--minloglevel=2 --remove_extra_whitespaces={}",
      options.model_type, options.normalization, options.vocab_size, options.byte_fallback,
      options.has_bos ? 1 : -1, options.normalization != "identity");
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(arguments, &lines, &model);
  if (!status.ok()) throw std::runtime_error(status.ToString());
  return model;
}

std::string tiny_text(int num_words, uint64_t seed) {
  static constexpr const char* kSyllables[] = {"ba", "né", "ti", "lo", "gra", "mu", "shi",
                                               "ke", "ön", "da", "ru", "vel", "so", "πa"};
  constexpr size_t kNumSyllables = std::size(kSyllables);
  Random random(seed);
  std::string text;
  for (int word = 0; word < num_words; ++word) {
    const uint64_t length = 1 + random.below(4);
    for (uint64_t i = 0; i < length; ++i) text += kSyllables[random.below(kNumSyllables)];
    const uint64_t ending = random.below(20);
    text += ending == 0 ? ".\n" : ending == 1 ? ", " : " ";
  }
  return text;
}

}  // namespace tigon::testing
