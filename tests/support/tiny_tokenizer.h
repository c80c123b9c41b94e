// Small sentencepiece models for tests, trained on the spot, and text to go with them.
#pragma once
#include <cstdint>
#include <string>

namespace tigon::testing {

struct TinyTokenizerOptions {
  std::string model_type = "bpe";  // bpe | unigram | char | word
  // identity | nmt_nfkc | …; identity keeps all white space, as Llama's tokenizers do, the others
  // join it.
  std::string normalization = "identity";
  int vocab_size = 400;
  bool byte_fallback = true;
  bool has_bos = true;
};

/// The bytes of a tokenizer.model. <unk>, <s>, </s> are 0, 1, 2.
std::string train_tiny_tokenizer(const TinyTokenizerOptions& options = {});

/// Sentences of invented words, always the same for a seed; lines of about ten words.
std::string tiny_text(int num_words, uint64_t seed);

}  // namespace tigon::testing
