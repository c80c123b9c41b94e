#include "data/encode_document.h"

#include <algorithm>
#include <span>

#include "core/error.h"

namespace tigon {
namespace {

using Kind = TextPiece::Kind;

int32_t id_of(const TextPiece& piece, const Tokenizer& tokenizer) {
  const bool is_end = piece.kind == Kind::kEndOfSequence;
  const auto id = is_end ? tokenizer.eos_id() : tokenizer.special_id(piece.text);
  if (id) return *id;
  if (is_end) fail("the format ends a text with EOS: expected a tokenizer with one, found none");
  fail(
      "chat_template: expected a tokenizer with the special token {}, found none; mistral and "
      "alpaca need no special token but EOS",
      piece.text);
}

/// Adds the ids of neighbouring texts, tokenized together.
void add_texts(std::span<const TextPiece> pieces, const Tokenizer& tokenizer,
               EncodedDocument& encoded) {
  std::string text;
  std::vector<std::pair<size_t, bool>> borders;  // bytes up to a change, and what is before it
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (i > 0 && pieces[i].is_counted != pieces[i - 1].is_counted) {
      borders.emplace_back(text.size(), pieces[i - 1].is_counted);
    }
    text += pieces[i].text;
  }
  const std::vector<int32_t> ids = tokenizer.encode(text);
  size_t done = 0;
  for (const auto& [bytes, is_counted] : borders) {
    const std::vector<int32_t> before = tokenizer.encode(text.substr(0, bytes));
    const auto border = std::ranges::mismatch(ids, before).in1 - ids.begin();
    const size_t end = std::max(done, static_cast<size_t>(border));
    encoded.counted.insert(encoded.counted.end(), end - done, is_counted ? 1 : 0);
    done = end;
  }
  encoded.counted.insert(encoded.counted.end(), ids.size() - done, pieces.back().is_counted);
  encoded.ids.insert(encoded.ids.end(), ids.begin(), ids.end());
}

}  // namespace

EncodedDocument encode_document(const Document& document, const Tokenizer& tokenizer) {
  EncodedDocument encoded;
  encoded.text_bytes = document.text_bytes();
  const std::span<const TextPiece> pieces = document.pieces;
  for (size_t i = 0; i < pieces.size();) {
    size_t end = i;
    while (end < pieces.size() && pieces[end].kind == Kind::kText) ++end;
    if (end > i) {
      add_texts(pieces.subspan(i, end - i), tokenizer, encoded);
      i = end;
    } else {
      encoded.ids.push_back(id_of(pieces[i], tokenizer));
      encoded.counted.push_back(pieces[i].is_counted ? 1 : 0);
      ++i;
    }
  }
  if (std::ranges::all_of(encoded.counted, [](uint8_t counted) { return counted != 0; })) {
    encoded.counted.clear();
  }
  return encoded;
}

}  // namespace tigon
