// The parts of a Hugging Face tokenizer.json that lie around the model. A kind or key that tigon
// does not know is an Error that names it.
#pragma once
#include <optional>
#include <string>

#include "data/bpe/normalizer.h"
#include "data/bpe/pre_tokenizer.h"
#include "data/bpe/token_decoder.h"
#include "io/json_fields.h"

namespace tigon {

/// `fields` is always the whole file; a part that is null or absent does nothing.

/// NFC, NFD, NFKC, NFKD, Prepend, Replace, Lowercase, Sequence.
Normalizer read_normalizer(const JsonFields& fields);

struct PreTokenizerPart {
  PreTokenizer steps;
  bool is_byte_level = false;  // its pieces are bytes for a byte-level model
};
/// ByteLevel, Split, Digits, Punctuation, Whitespace, WhitespaceSplit, Metaspace, Sequence.
PreTokenizerPart read_pre_tokenizer(const JsonFields& fields);

struct DecoderPart {
  TokenDecoder steps;
  bool has_byte_fallback = false;
};
/// ByteLevel, Metaspace, Replace, ByteFallback, Fuse, Strip, Sequence.
DecoderPart read_decoder(const JsonFields& fields);

struct TemplatePart {
  bool is_there = false;
  std::optional<std::string> before, after;  // the tokens put around a text
};
/// What TemplateProcessing (alone or in a Sequence, beside ByteLevel) adds to a single text.
TemplatePart read_template(const JsonFields& fields);

}  // namespace tigon
