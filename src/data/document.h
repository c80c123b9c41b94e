// A document before tokenizing: text with the special tokens of a template between.
#pragma once
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace tigon {

struct TextPiece {
  enum class Kind { kText, kSpecialToken, kEndOfSequence };

  Kind kind = Kind::kText;
  std::string text;        // of kSpecialToken: its name, e.g. "<|im_end|>"; of the end: empty
  bool is_counted = true;  // whether the loss counts its tokens
};

struct Document {
  std::vector<TextPiece> pieces;

  /// A document of one text, all of it counted.
  static Document of_text(std::string text) {
    return {{{TextPiece::Kind::kText, std::move(text), true}}};
  }
  size_t text_bytes() const {
    size_t bytes = 0;
    for (const TextPiece& piece : pieces) bytes += piece.text.size();
    return bytes;
  }
};

}  // namespace tigon
