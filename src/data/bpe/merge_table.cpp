#include "data/bpe/merge_table.h"

#include <utility>

namespace tigon {
namespace {

constexpr size_t kFirstSlots = 1024;

uint64_t pair_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

/// Spreads the bits of a pair; the finalizer of MurmurHash3.
uint64_t mixed(uint64_t value) {
  value = (value ^ value >> 33) * 0xFF51AFD7ED558CCDULL;
  value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53ULL;
  return value ^ value >> 33;
}

}  // namespace

MergeTable::MergeTable() : slots_(kFirstSlots) {}

size_t MergeTable::slot_of(uint64_t pair) const {
  const size_t mask = slots_.size() - 1;
  size_t position = mixed(pair) & mask;
  while (slots_[position].merge.rank >= 0 && slots_[position].pair != pair) {
    position = (position + 1) & mask;
  }
  return position;
}

void MergeTable::add(int32_t left, int32_t right, Merge merge) {
  const uint64_t pair = pair_of(left, right);
  Slot& slot = slots_[slot_of(pair)];
  const bool is_new = slot.merge.rank < 0;
  slot = {pair, merge};
  if (!is_new || ++size_ * 2 <= slots_.size()) return;
  const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(slots_.size() * 2));
  for (const Slot& moved : old) {
    if (moved.merge.rank >= 0) slots_[slot_of(moved.pair)] = moved;
  }
}

Merge MergeTable::find(int32_t left, int32_t right) const {
  return slots_[slot_of(pair_of(left, right))].merge;
}

}  // namespace tigon
