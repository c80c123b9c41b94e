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

void ShardWriter::add_document(std::span<const int32_t> ids) {
  file_.write(std::as_bytes(ids));
  offsets_.push_back(offsets_.back() + ids.size());
}

void ShardWriter::commit() {
  ShardTrailer trailer;
  trailer.num_documents = offsets_.size() - 1;
  trailer.num_tokens = offsets_.back();
  std::copy(key_.begin(), key_.end(), trailer.key.begin());
  const std::vector<std::byte> padding(shard_padding(trailer.num_tokens));
  file_.write(padding);
  file_.write(std::as_bytes(std::span(offsets_)));
  file_.write(std::as_bytes(std::span(&trailer, 1)));
  file_.commit();
}

}  // namespace tigon
