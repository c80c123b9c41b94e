// Token shards laid end to end.
#pragma once
#include <string>
#include <vector>

#include "data/token_shard.h"

namespace tigon {

class ShardList {
 public:
  /// At least one shard.
  explicit ShardList(std::vector<TokenShard> shards);

  const std::vector<TokenShard>& shards() const { return shards_; }
  int64_t num_documents() const { return first_documents_.back(); }
  /// TokenShard::document of the document with this number among all.
  std::span<const uint32_t> document(int64_t index) const;
  bool is_masked() const;
  /// The key of a single shard, else a hash of all keys.
  const std::string& key() const { return key_; }

 private:
  std::vector<TokenShard> shards_;
  std::vector<int64_t> first_documents_;  // [shards + 1]: the number of each shard's first document
  std::string key_;
};

}  // namespace tigon
