// A vocabulary: which bytes have which id. Open addressing over one block of text, because looking
// a piece up is what tokenizing does most.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tigon {

/// No id.
inline constexpr int32_t kNoToken = -1;
/// Ids of any tokenizer lie below this; it bounds the tables a file can ask for.
inline constexpr int64_t kMaxTokenIds = int64_t{1} << 22;

class Vocabulary {
 public:
  Vocabulary();

  /// Adds a piece (any bytes, at most 4 GiB together); false, and nothing happens, if these bytes
  /// are already there.
  bool add(std::string_view piece, int32_t id);
  /// The id of these bytes, kNoToken if they are not there.
  int32_t find(std::string_view piece) const;
  size_t size() const { return size_; }

 private:
  struct Slot {
    uint64_t hash = 0;
    uint32_t begin = 0, bytes = 0;
    int32_t id = kNoToken;
  };

  /// The slot of these bytes, or the free one where they would go.
  size_t slot_of(std::string_view piece, uint64_t hash) const;
  void grow();

  std::string text_;         // all pieces, one behind the other
  std::vector<Slot> slots_;  // a power of two, at most half of them used
  size_t size_ = 0;
};

}  // namespace tigon
