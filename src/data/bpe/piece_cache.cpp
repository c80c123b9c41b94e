#include "data/bpe/piece_cache.h"

#include <xxhash.h>

#include <algorithm>

namespace tigon {
namespace {

// 2 MiB: most words of a text, small enough for a core's cache.
constexpr size_t kNumSlots = size_t{1} << 15;

}  // namespace

PieceCache::PieceCache() : slots_(kNumSlots) {}

const int32_t* PieceCache::find(std::string_view piece, size_t& num_ids) {
  if (piece.empty() || piece.size() > kMaxBytes) return nullptr;
  position_ = XXH3_64bits(piece.data(), piece.size()) % kNumSlots;
  const Slot& slot = slots_[position_];
  if (piece != std::string_view(slot.piece.data(), slot.bytes)) return nullptr;
  num_ids = slot.num_ids;
  return slot.ids.data();
}

void PieceCache::store(std::string_view piece, std::span<const int32_t> ids) {
  if (piece.empty() || piece.size() > kMaxBytes || ids.size() > kMaxIds) return;
  Slot& slot = slots_[position_];
  slot.bytes = static_cast<uint8_t>(piece.size());
  slot.num_ids = static_cast<uint8_t>(ids.size());
  std::copy(piece.begin(), piece.end(), slot.piece.begin());
  std::copy(ids.begin(), ids.end(), slot.ids.begin());
}

}  // namespace tigon
