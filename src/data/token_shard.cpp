#include "data/token_shard.h"

#include <algorithm>
#include <bit>
#include <cctype>
#include <cstring>

#include "core/error.h"
#include "data/shard_format.h"

namespace tigon {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are mapped as they lie");

template <class Value>
Value read_at(std::span<const std::byte> bytes, size_t position) {
  Value value;
  std::memcpy(&value, bytes.data() + position, sizeof(value));
  return value;
}

template <class Value>
std::span<const Value> view(std::span<const std::byte> bytes, size_t position, size_t count) {
  return {reinterpret_cast<const Value*>(bytes.data() + position), count};
}

}  // namespace

TokenShard::TokenShard(const std::filesystem::path& path) : file_(path) {
  const std::string name = path.string();
  const std::span<const std::byte> bytes = file_.bytes();
  const size_t frame = sizeof(ShardHeader) + sizeof(ShardTrailer);
  if (bytes.size() < frame) {
    fail("{}: expected a token shard of at least {} bytes, found {}", name, frame, bytes.size());
  }
  const auto header = read_at<ShardHeader>(bytes, 0);
  if (header.magic != kShardMagic) fail("{}: expected a token shard, found another file", name);
  if (header.version != kShardVersion) {
    fail("{}: expected version {}, found {}", name, kShardVersion, header.version);
  }
  const auto trailer = read_at<ShardTrailer>(bytes, bytes.size() - sizeof(ShardTrailer));
  if (trailer.magic != kShardMagic) fail("{}: the shard is cut off: its trailer is missing", name);
  // Bounds first, so that the sum below cannot overflow.
  const uint64_t tokens = trailer.num_tokens, documents = trailer.num_documents;
  const uint64_t size = bytes.size() - frame;
  if (tokens > size / sizeof(uint32_t) || documents >= size / sizeof(uint64_t) ||
      tokens * sizeof(uint32_t) + shard_padding(tokens) + (documents + 1) * sizeof(uint64_t) !=
          size) {
    fail("{}: expected the size of {} documents and {} tokens, found {} bytes", name, documents,
         tokens, bytes.size());
  }
  ids_ = view<uint32_t>(bytes, sizeof(ShardHeader), tokens);
  const size_t offsets = sizeof(ShardHeader) + ids_.size_bytes() + shard_padding(tokens);
  offsets_ = view<uint64_t>(bytes, offsets, documents + 1);
  if (offsets_.front() != 0 || offsets_.back() != tokens ||
      !std::is_sorted(offsets_.begin(), offsets_.end())) {
    fail("{}: expected document offsets rising from 0 to {}, found others", name, tokens);
  }
  if (trailer.num_counted > tokens) {
    fail("{}: expected at most {} counted tokens, found {}", name, tokens, trailer.num_counted);
  }
  num_counted_ = static_cast<int64_t>(trailer.num_counted);
  counts_ = {.documents = static_cast<int64_t>(documents),
             .empty = static_cast<int64_t>(trailer.empty),
             .malformed = static_cast<int64_t>(trailer.malformed),
             .without_field = static_cast<int64_t>(trailer.without_field),
             .too_long = static_cast<int64_t>(trailer.too_long)};
  key_.assign(trailer.key.begin(), trailer.key.end());
  if (!std::all_of(key_.begin(), key_.end(), [](unsigned char c) { return std::isxdigit(c); })) {
    fail("{}: expected a key of {} hexadecimal digits, found other bytes", name, kShardKeyDigits);
  }
}

std::span<const uint32_t> TokenShard::document(int64_t index) const {
  if (index < 0 || index >= num_documents()) {
    fail("shard {}: expected a document from 0 to {}, found {}", key_, num_documents() - 1, index);
  }
  // The mapped file could have changed since it was checked.
  const uint64_t begin = offsets_[index], end = offsets_[index + 1];
  if (begin > end || end > ids_.size()) fail("shard {}: its file was changed while in use", key_);
  return ids_.subspan(begin, end - begin);
}

}  // namespace tigon
