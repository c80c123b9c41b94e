// A byte-pair model: pieces of text to ids. Pieces come from the pre-tokenizer; this file knows
// nothing of words, spaces or special tokens.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "data/bpe/merge_table.h"
#include "data/bpe/piece_cache.h"
#include "data/bpe/symbol_merging.h"
#include "data/bpe/vocabulary.h"

namespace tigon {

struct BpeOptions {
  // A piece is bytes, and its first symbols are single bytes; otherwise it is UTF-8 and they are
  // characters.
  bool is_byte_level = true;
  // tiktoken: two neighbours join if their bytes together are in the vocabulary, and the id is the
  // rank. Otherwise the merge table says it.
  bool merges_by_id = false;
  // A piece that is in the vocabulary as a whole is that token, whatever the merges say.
  bool takes_whole_pieces = false;
  // A character that is not in the vocabulary becomes its bytes' tokens <0x00> … <0xFF>.
  bool has_byte_fallback = false;
  // Neighbouring unknown characters become one unknown token.
  bool joins_unknown = false;
  // What an unknown character becomes; kNoToken: nothing at all.
  int32_t unknown_id = kNoToken;
};

/// What encoding a piece needs beside the model; one a thread.
struct BpeScratch {
  PieceCache cache;
  MergeSpace merging;
};

class BpeModel {
 public:
  BpeModel(Vocabulary vocabulary, MergeTable merges, const BpeOptions& options);

  /// Appends the ids of a piece of less than 2 GiB. Time grows with n log n of its length.
  void encode(std::string_view piece, BpeScratch& scratch, std::vector<int32_t>& ids) const;

  /// For characters that stand for spaces ("▁" of sentencepiece): lets encode() cut a piece before
  /// each of them that follows another character. Only for models in which no token holds it behind
  /// another character, so that the ids stay the same.
  void cut_before(std::string_view character);

  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  void encode_part(std::string_view part, BpeScratch& scratch, std::vector<int32_t>& ids) const;
  void append_byte_symbols(std::string_view part, std::vector<Symbol>& symbols) const;
  void append_character_symbols(std::string_view part, std::vector<Symbol>& symbols) const;
  bool append_fallback(std::string_view character, size_t begin,
                       std::vector<Symbol>& symbols) const;
  template <class FindMerge>
  void merge(MergeSpace& space, const FindMerge& find_merge) const;

  Vocabulary vocabulary_;
  MergeTable merges_;
  BpeOptions options_;
  std::array<int32_t, 256> byte_ids_{};      // of one-byte pieces
  std::array<int32_t, 256> fallback_ids_{};  // of <0x00> … <0xFF>
  std::string cut_before_;
};

}  // namespace tigon
