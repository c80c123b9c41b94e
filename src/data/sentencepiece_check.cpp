#include "data/sentencepiece_check.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "core/error.h"
#include "data/protobuf_reader.h"
#include "data/sentencepiece_fields.h"
#include "data/utf8.h"

namespace tigon {
namespace {

namespace fields = sentencepiece_fields;

constexpr size_t kMaxPieceBytes = 8000;
// The library keeps at most 32 matches of a character map, 64 of the user-defined pieces, and
// writes past them when there are more.
constexpr int kMaxMatches = 32;
constexpr int kMaxKeyBytes = 256;

/// A double-array trie as Darts-clone lays it out: 32-bit units; a unit's offset, xored with its
/// position and the next byte, is the position of the child.
class CharacterMapCheck {
 public:
  explicit CharacterMapCheck(std::string_view map) {
    uint32_t trie_bytes = 0;
    if (map.size() < sizeof(trie_bytes)) return;
    std::memcpy(&trie_bytes, map.data(), sizeof(trie_bytes));
    map.remove_prefix(sizeof(trie_bytes));
    if (trie_bytes == 0 || trie_bytes >= map.size() || trie_bytes % sizeof(uint32_t) != 0) return;
    units_.resize(trie_bytes / sizeof(uint32_t));
    std::memcpy(units_.data(), map.data(), trie_bytes);
    texts_ = map.substr(trie_bytes);
    longest_.assign(units_.size(), kUnseen);
  }

  bool is_good() { return !units_.empty() && texts_.back() == '\0' && matches_below(0, 0) >= 0; }

 private:
  static constexpr int8_t kUnseen = -2, kOpen = -3, kBad = -1;

  static uint32_t offset(uint32_t unit) { return (unit >> 10) << ((unit & 512) >> 6); }

  /// The most keys that end on one path from this unit down; kBad if a path leaves the table, runs
  /// in a circle, or is longer than any real one.
  int8_t matches_below(size_t position, int depth) {
    if (longest_[position] != kUnseen)
      return longest_[position] == kOpen ? kBad : longest_[position];
    longest_[position] = kOpen;
    const size_t base = position ^ offset(units_[position]);
    // The search looks at base ^ byte for any byte.
    const bool is_inside = (base | 255) < units_.size();
    const bool has_key = ((units_[position] >> 8) & 1) != 0;
    // A key's value is where its replacement text starts.
    const bool is_good = is_inside && depth <= kMaxKeyBytes &&
                         (!has_key || (units_[base] & 0x7FFFFFFF) < texts_.size());
    int longest = is_good ? 0 : kBad;
    for (size_t byte = 0; byte < 256 && longest != kBad; ++byte) {
      // A child carries its byte as label; leaves have the top bit set.
      if ((units_[base ^ byte] & 0x800000FF) != byte) continue;
      const int below = matches_below(base ^ byte, depth + 1);
      longest = below == kBad ? kBad : std::max(longest, below);
    }
    if (longest != kBad && has_key && ++longest > kMaxMatches) longest = kBad;
    return longest_[position] = static_cast<int8_t>(longest);
  }

  std::vector<uint32_t> units_;
  std::string_view texts_;
  std::vector<int8_t> longest_;  // per unit: the result of matches_below
};

/// How many of the sorted pieces begin one another at most, one inside the next.
size_t deepest_nesting(const std::vector<std::string_view>& sorted) {
  std::vector<std::string_view> open;
  size_t deepest = 0;
  for (const std::string_view piece : sorted) {
    while (!open.empty() && !piece.starts_with(open.back())) open.pop_back();
    open.push_back(piece);
    deepest = std::max(deepest, open.size());
  }
  return deepest;
}

class ModelCheck {
 public:
  explicit ModelCheck(const std::string& source_name) : source_name_(source_name) {}

  void run(std::string_view model) {
    for_each_field(model, [&](const ProtobufField& field) {
      if (field.number == fields::kModelPieces) check_piece(field.bytes);
      if (field.number == fields::kModelNormalizer || field.number == fields::kModelDenormalizer) {
        check_normalizer(field.bytes);
      }
    });
    if (num_pieces_ == 0) fail("{}: expected a sentencepiece model, found no pieces", source_name_);
    std::sort(user_defined_.begin(), user_defined_.end());
    if (deepest_nesting(user_defined_) > kMaxMatches) {
      fail("{}: more than {} user-defined pieces that begin one another", source_name_,
           kMaxMatches);
    }
  }

 private:
  template <class Visit>
  void for_each_field(std::string_view message, const Visit& visit) {
    ProtobufReader reader(message);
    while (const auto field = reader.next()) visit(*field);
    if (reader.is_malformed()) {
      fail("{}: expected a sentencepiece model, found malformed or cut off data", source_name_);
    }
  }

  void check_piece(std::string_view message) {
    std::string_view text;
    uint64_t type = 0;
    float score = 0;
    for_each_field(message, [&](const ProtobufField& field) {
      if (field.number == fields::kPieceText) text = field.bytes;
      if (field.number == fields::kPieceType) type = field.varint;
      if (field.number == fields::kPieceScore && field.bytes.size() == sizeof(score)) {
        std::memcpy(&score, field.bytes.data(), sizeof(score));
      }
    });
    if (text.empty() || text.size() > kMaxPieceBytes || text.find('\0') != text.npos ||
        !is_valid_utf8(text)) {
      fail("{}: piece {}: expected 1 to {} bytes of UTF-8 without NUL, found {} bytes",
           source_name_, num_pieces_, kMaxPieceBytes, text.size());
    }
    if (!std::isfinite(score)) {
      fail("{}: piece {}: expected a finite score, found {}", source_name_, num_pieces_, score);
    }
    if (type == fields::kUserDefinedPiece) user_defined_.push_back(text);
    ++num_pieces_;
  }

  void check_normalizer(std::string_view message) {
    for_each_field(message, [&](const ProtobufField& field) {
      if (field.number != fields::kNormalizerCharacterMap || field.bytes.empty()) return;
      if (!CharacterMapCheck(field.bytes).is_good()) {
        fail("{}: the character map of the normalizer is corrupt", source_name_);
      }
    });
  }

  const std::string& source_name_;
  size_t num_pieces_ = 0;
  std::vector<std::string_view> user_defined_;
};

static_assert(std::endian::native == std::endian::little, "the model file is read as it lies");

}  // namespace

void check_sentencepiece_model(std::string_view model, const std::string& source_name) {
  ModelCheck(source_name).run(model);
}

}  // namespace tigon
