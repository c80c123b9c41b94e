// Ids of the short pieces met lately. A table of fixed size: a new piece takes the place of an
// older one with the same slot. Not for several threads at once.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace tigon {

class PieceCache {
 public:
  PieceCache();

  /// The ids of this piece, if they are kept; valid until the next store().
  const int32_t* find(std::string_view piece, size_t& num_ids);
  /// Keeps the ids of the piece that find() was last called with, if both are short enough.
  void store(std::string_view piece, std::span<const int32_t> ids);

 private:
  static constexpr size_t kMaxBytes = 30, kMaxIds = 8;
  // One line of a processor's cache.
  struct alignas(64) Slot {
    uint8_t bytes = 0, num_ids = 0;
    std::array<char, kMaxBytes> piece{};
    std::array<int32_t, kMaxIds> ids{};
  };
  static_assert(sizeof(Slot) == 64);

  std::vector<Slot> slots_;
  size_t position_ = 0;  // the slot of the last find()
};

}  // namespace tigon
