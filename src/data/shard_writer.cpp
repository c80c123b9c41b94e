#include "data/shard_writer.h"

#include <algorithm>

#include "core/error.h"
#include "data/shard_format.h"

namespace tigon {

ShardWriter::ShardWriter(const std::filesystem::path& path, const std::string& key)
    : file_(path), key_(key) {
  if (key.size() != kShardKeyDigits) {
    fail("{}: expected a key of {} digits, found \"{}\"", path.string(), kShardKeyDigits, key);
  }
  const ShardHeader header;
  file_.write(std::as_bytes(std::span(&header, 1)));
}

void ShardWriter::add_document(std::span<const int32_t> ids, std::span<const uint8_t> counted) {
  offsets_.push_back(offsets_.back() + ids.size());
  if (counted.empty()) {
    file_.write(std::as_bytes(ids));
    num_counted_ += ids.size();
    return;
  }
  marked_.assign(ids.begin(), ids.end());
  for (size_t i = 0; i < ids.size(); ++i) {
    if (counted[i] == 0) marked_[i] |= kUncountedBit;
    num_counted_ += counted[i] == 0 ? 0 : 1;
  }
  file_.write(std::as_bytes(std::span(marked_)));
}

void ShardWriter::commit(const CorpusCounts& counts) {
  ShardTrailer trailer;
  trailer.num_documents = offsets_.size() - 1;
  trailer.num_tokens = offsets_.back();
  trailer.num_counted = num_counted_;
  trailer.empty = static_cast<uint64_t>(counts.empty);
  trailer.malformed = static_cast<uint64_t>(counts.malformed);
  trailer.without_field = static_cast<uint64_t>(counts.without_field);
  trailer.too_long = static_cast<uint64_t>(counts.too_long);
  std::copy(key_.begin(), key_.end(), trailer.key.begin());
  const std::vector<std::byte> padding(shard_padding(trailer.num_tokens));
  file_.write(padding);
  file_.write(std::as_bytes(std::span(offsets_)));
  file_.write(std::as_bytes(std::span(&trailer, 1)));
  file_.commit();
}

}  // namespace tigon
