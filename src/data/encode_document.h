// A document as token ids.
#pragma once
#include <cstdint>
#include <vector>

#include "data/document.h"
#include "data/tokenizer.h"

namespace tigon {

struct EncodedDocument {
  std::vector<int32_t> ids;
  std::vector<uint8_t> counted;  // [ids] whether the loss counts a token; empty: all are counted
  size_t text_bytes = 0;
};

/// Text between special tokens is tokenized as a whole, wherever its pieces end: a token counts
/// from the first on that differs from what the masked text alone would give. Special tokens become
/// their one id. Throws Error naming a special token, or the end of sequence, that the tokenizer
/// does not have.
EncodedDocument encode_document(const Document& document, const Tokenizer& tokenizer);

}  // namespace tigon
