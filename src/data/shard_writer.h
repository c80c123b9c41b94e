// Writes a token shard in one pass.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "data/corpus_counts.h"
#include "io/atomic_file.h"

namespace tigon {

class ShardWriter {
 public:
  /// `key`: 32 digits. The file appears at `path` with commit(), and not at all without it.
  ShardWriter(const std::filesystem::path& path, const std::string& key);

  /// `counted`: one flag an id, 0 where the loss does not count it; empty: all are counted.
  void add_document(std::span<const int32_t> ids, std::span<const uint8_t> counted = {});
  /// `counts`: what became of the records, kept beside the documents.
  void commit(const CorpusCounts& counts = {});

  int64_t num_documents() const { return static_cast<int64_t>(offsets_.size()) - 1; }
  int64_t num_tokens() const { return static_cast<int64_t>(offsets_.back()); }

 private:
  AtomicFile file_;
  std::string key_;
  std::vector<uint64_t> offsets_ = {0};
  uint64_t num_counted_ = 0;
  std::vector<uint32_t> marked_;  // of one document
};

}  // namespace tigon
