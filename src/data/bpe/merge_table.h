// The merges of a byte-pair model: which two tokens join, in which order, to which token.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tigon {

/// What two neighbours become. Lower ranks come first; rank −1: they do not join.
struct Merge {
  int32_t rank = -1;
  int32_t id = -1;
};

class MergeTable {
 public:
  MergeTable();

  /// A pair that is there already gets the new merge. Ids are not negative.
  void add(int32_t left, int32_t right, Merge merge);
  Merge find(int32_t left, int32_t right) const;

 private:
  struct Slot {
    uint64_t pair = 0;
    Merge merge;
  };

  size_t slot_of(uint64_t pair) const;

  std::vector<Slot> slots_;  // a power of two, at most half of them used
  size_t size_ = 0;
};

}  // namespace tigon
