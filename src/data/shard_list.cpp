#include "data/shard_list.h"

#include <algorithm>

#include "core/error.h"
#include "data/content_hash.h"

namespace tigon {

ShardList::ShardList(std::vector<TokenShard> shards) : shards_(std::move(shards)) {
  if (shards_.empty()) fail("rows: expected at least one token shard, found none");
  ContentHash keys;
  first_documents_.push_back(0);
  for (const TokenShard& shard : shards_) {
    first_documents_.push_back(first_documents_.back() + shard.num_documents());
    keys.add(shard.key());
  }
  key_ = shards_.size() == 1 ? shards_.front().key() : keys.hex();
}

std::span<const uint32_t> ShardList::document(int64_t index) const {
  if (index < 0 || index >= num_documents()) {
    fail("shard {}: expected a document from 0 to {}, found {}", key_, num_documents() - 1, index);
  }
  const auto next = std::ranges::upper_bound(first_documents_, index);
  const auto shard = next - first_documents_.begin() - 1;
  return shards_[static_cast<size_t>(shard)].document(index -
                                                      first_documents_[static_cast<size_t>(shard)]);
}

bool ShardList::is_masked() const {
  return std::ranges::any_of(shards_, &TokenShard::is_masked);
}

}  // namespace tigon
