#include "data/bpe/vocabulary.h"

#include <xxhash.h>

#include <utility>

namespace tigon {
namespace {

constexpr size_t kFirstSlots = 1024;

}  // namespace

Vocabulary::Vocabulary() : slots_(kFirstSlots) {}

size_t Vocabulary::slot_of(std::string_view piece, uint64_t hash) const {
  const size_t mask = slots_.size() - 1;
  size_t position = hash & mask;
  while (true) {
    const Slot& slot = slots_[position];
    if (slot.id == kNoToken) return position;
    if (slot.hash == hash && piece == std::string_view(text_).substr(slot.begin, slot.bytes)) {
      return position;
    }
    position = (position + 1) & mask;
  }
}

void Vocabulary::grow() {
  const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(slots_.size() * 2));
  const size_t mask = slots_.size() - 1;
  for (const Slot& slot : old) {
    if (slot.id == kNoToken) continue;
    size_t position = slot.hash & mask;
    while (slots_[position].id != kNoToken) position = (position + 1) & mask;
    slots_[position] = slot;
  }
}

bool Vocabulary::add(std::string_view piece, int32_t id) {
  const uint64_t hash = XXH3_64bits(piece.data(), piece.size());
  Slot& slot = slots_[slot_of(piece, hash)];
  if (slot.id != kNoToken) return false;
  slot = {hash, static_cast<uint32_t>(text_.size()), static_cast<uint32_t>(piece.size()), id};
  text_.append(piece);
  if (++size_ * 2 > slots_.size()) grow();
  return true;
}

int32_t Vocabulary::find(std::string_view piece) const {
  return slots_[slot_of(piece, XXH3_64bits(piece.data(), piece.size()))].id;
}

}  // namespace tigon
