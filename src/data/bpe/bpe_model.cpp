#include "data/bpe/bpe_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "data/utf8.h"

namespace tigon {

BpeModel::BpeModel(Vocabulary vocabulary, MergeTable merges, const BpeOptions& options)
    : vocabulary_(std::move(vocabulary)), merges_(std::move(merges)), options_(options) {
  for (int byte = 0; byte < 256; ++byte) {
    const char text = static_cast<char>(byte);
    byte_ids_[byte] = vocabulary_.find({&text, 1});
    fallback_ids_[byte] = vocabulary_.find(fmt::format("<0x{:02X}>", byte));
  }
}

void BpeModel::cut_before(std::string_view character) {
  cut_before_ = character;
}

void BpeModel::encode(std::string_view piece, BpeScratch& scratch,
                      std::vector<int32_t>& ids) const {
  if (cut_before_.empty()) return encode_part(piece, scratch, ids);
  while (!piece.empty()) {
    // The first of the characters may repeat: a run of spaces stays together.
    size_t position = 0;
    while (piece.substr(position).starts_with(cut_before_)) position += cut_before_.size();
    const size_t cut = std::min(piece.find(cut_before_, position), piece.size());
    encode_part(piece.substr(0, cut), scratch, ids);
    piece.remove_prefix(cut);
  }
}

void BpeModel::encode_part(std::string_view part, BpeScratch& scratch,
                           std::vector<int32_t>& ids) const {
  size_t num_kept = 0;
  if (const int32_t* const kept = scratch.cache.find(part, num_kept)) {
    ids.insert(ids.end(), kept, kept + num_kept);
    return;
  }
  const size_t first = ids.size();
  const int32_t whole = options_.takes_whole_pieces ? vocabulary_.find(part) : kNoToken;
  if (whole != kNoToken) {
    ids.push_back(whole);
  } else {
    MergeSpace& space = scratch.merging;
    space.symbols.clear();
    options_.is_byte_level ? append_byte_symbols(part, space.symbols)
                           : append_character_symbols(part, space.symbols);
    if (options_.merges_by_id) {
      merge(space, [&](const Symbol& left, const Symbol& right) {
        const int32_t id = vocabulary_.find(part.substr(left.begin, right.end - left.begin));
        return Merge{id, id};
      });
    } else {
      merge(space, [&](const Symbol& left, const Symbol& right) {
        return merges_.find(left.id, right.id);
      });
    }
    for (int32_t i = space.symbols.empty() ? -1 : 0; i >= 0; i = space.symbols[i].next) {
      ids.push_back(space.symbols[i].id);
    }
  }
  scratch.cache.store(part, std::span(ids).subspan(first));
}

void BpeModel::append_byte_symbols(std::string_view part, std::vector<Symbol>& symbols) const {
  bool follows_unknown = false;
  for (size_t i = 0; i < part.size(); ++i) {
    const int32_t id = byte_ids_[static_cast<unsigned char>(part[i])];
    const bool is_unknown = id == kNoToken;
    if (!is_unknown) {
      append_symbol(symbols, id, i + 1);
    } else if (options_.unknown_id != kNoToken) {
      if (!(follows_unknown && options_.joins_unknown)) {
        append_symbol(symbols, options_.unknown_id, i + 1);
      }
    }
    follows_unknown = is_unknown;
  }
}

/// The tokens of a character's bytes; false if one has none.
bool BpeModel::append_fallback(std::string_view character, size_t begin,
                               std::vector<Symbol>& symbols) const {
  const auto id_of = [&](char byte) { return fallback_ids_[static_cast<unsigned char>(byte)]; };
  if (std::any_of(character.begin(), character.end(),
                  [&](char byte) { return id_of(byte) == kNoToken; })) {
    return false;
  }
  for (const char byte : character) append_symbol(symbols, id_of(byte), ++begin);
  return true;
}

void BpeModel::append_character_symbols(std::string_view part, std::vector<Symbol>& symbols) const {
  // An unknown character waits for the next that has a token of its own: neighbours may join it,
  // and bytes of others come before it, as in the tokenizers package.
  bool has_unknown = false;
  const auto flush = [&](size_t end) {
    if (has_unknown) append_symbol(symbols, options_.unknown_id, end);
    has_unknown = false;
  };
  std::string_view rest = part;
  while (!rest.empty()) {
    const size_t begin = part.size() - rest.size();
    const std::string_view character = rest.substr(0, character_bytes(rest));
    rest.remove_prefix(character.size());
    const size_t end = begin + character.size();
    const int32_t id = character.size() == 1 ? byte_ids_[static_cast<unsigned char>(character[0])]
                                             : vocabulary_.find(character);
    if (id != kNoToken) {
      flush(begin);
      append_symbol(symbols, id, end);
    } else if (options_.has_byte_fallback && append_fallback(character, begin, symbols)) {
      continue;
    } else if (options_.unknown_id != kNoToken) {
      if (!options_.joins_unknown) flush(begin);
      has_unknown = true;
    }
  }
  flush(part.size());
}

template <class FindMerge>
void BpeModel::merge(MergeSpace& space, const FindMerge& find_merge) const {
  std::vector<Symbol>& symbols = space.symbols;
  auto& candidates = space.candidates;
  candidates.clear();
  const auto merge_with_next = [&](int32_t left) {
    const Symbol& symbol = symbols[left];
    return symbol.next < 0 ? Merge{} : find_merge(symbol, symbols[symbol.next]);
  };
  for (int32_t i = 0; i + 1 < static_cast<int32_t>(symbols.size()); ++i) {
    const Merge merge = merge_with_next(i);
    if (merge.rank >= 0) candidates.push_back({merge.rank, i, merge.id});
  }
  std::make_heap(candidates.begin(), candidates.end());
  const auto push = [&](int32_t left) {
    if (left < 0) return;
    const Merge merge = merge_with_next(left);
    if (merge.rank < 0) return;
    candidates.push_back({merge.rank, left, merge.id});
    std::push_heap(candidates.begin(), candidates.end());
  };
  while (!candidates.empty()) {
    std::pop_heap(candidates.begin(), candidates.end());
    const MergeSpace::Candidate best = candidates.back();
    candidates.pop_back();
    Symbol& left = symbols[best.left];
    // Candidates whose symbols have joined others since are out of date.
    if (left.id == kNoToken || merge_with_next(best.left).id != best.id) continue;
    Symbol& right = symbols[left.next];
    left.id = best.id;
    left.end = right.end;
    left.next = right.next;
    right.id = kNoToken;
    if (left.next >= 0) symbols[left.next].previous = best.left;
    push(left.previous);
    push(best.left);
  }
}

}  // namespace tigon
