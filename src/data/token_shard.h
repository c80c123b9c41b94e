// A tokenized corpus on disk: documents' ids in a memory-mapped file, made once and found again by
// its key. No Torch here.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "io/mapped_file.h"

namespace tigon {

class TokenShard {
 public:
  /// Opens an existing shard file; checks magic, version, sizes and offsets.
  explicit TokenShard(const std::filesystem::path& path);

  int64_t num_documents() const { return static_cast<int64_t>(offsets_.size()) - 1; }
  int64_t num_tokens() const { return static_cast<int64_t>(ids_.size()); }
  /// Ids of one document, without BOS or EOS.
  std::span<const uint32_t> document(int64_t index) const;
  /// Hash of the files' content and the tokenizer: names the shard, and goes into run.json.
  const std::string& key() const { return key_; }

 private:
  MappedFile file_;
  std::string key_;
  std::span<const uint64_t> offsets_;  // [documents + 1]
  std::span<const uint32_t> ids_;
};

/// The shard of these files under this tokenizer: opened from `cache_folder` if it is there, else
/// tokenized with `num_threads` threads (with a progress line), written atomically and opened. A
/// damaged shard in the cache is reported and made again. An empty corpus throws Error.
TokenShard open_token_shard(const std::vector<std::filesystem::path>& files,
                            const Tokenizer& tokenizer, const std::filesystem::path& cache_folder,
                            int num_threads);

/// $TIGON_CACHE, else $XDG_CACHE_HOME/tigon, else ~/.cache/tigon.
std::filesystem::path default_cache_folder();

}  // namespace tigon
