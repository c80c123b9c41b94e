// Joining neighbours by rank until none join: the heart of byte-pair encoding.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "data/bpe/merge_table.h"

namespace tigon {

/// A token within a piece.
struct Symbol {
  int32_t id = -1;
  uint32_t begin = 0, end = 0;       // its bytes in the piece
  int32_t previous = -1, next = -1;  // indices of its neighbours, −1: none
};

/// Space for merging that is used again for the next piece.
struct MergeSpace {
  struct Candidate {
    int32_t rank, left, id;
    /// Lowest rank first, of one rank the leftmost: a heap keeps the largest on top.
    bool operator<(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : left > other.left;
    }
  };
  std::vector<Symbol> symbols;
  std::vector<Candidate> candidates;
};

/// Appends a token that covers the bytes up to `end`.
inline void append_symbol(std::vector<Symbol>& symbols, int32_t id, size_t end) {
  const auto index = static_cast<int32_t>(symbols.size());
  const uint32_t begin = symbols.empty() ? 0 : symbols.back().end;
  if (!symbols.empty()) symbols.back().next = index;
  symbols.push_back({id, begin, static_cast<uint32_t>(end), index - 1, -1});
}

}  // namespace tigon
