// A tokenized corpus on disk: documents' ids in a memory-mapped file, made once and found again by
// its key. No Torch here.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "data/corpus_counts.h"
#include "data/document_options.h"
#include "data/tokenizer.h"
#include "io/mapped_file.h"

namespace tigon {

class TokenShard {
 public:
  /// Opens an existing shard file; checks magic, version, sizes and offsets.
  explicit TokenShard(const std::filesystem::path& path);

  int64_t num_documents() const { return static_cast<int64_t>(offsets_.size()) - 1; }
  int64_t num_tokens() const { return static_cast<int64_t>(ids_.size()); }
  /// Tokens that the loss counts: all but those of masked prompts.
  int64_t num_counted() const { return num_counted_; }
  bool is_masked() const { return num_counted_ < num_tokens(); }
  /// What became of the records it was made from.
  const CorpusCounts& counts() const { return counts_; }
  /// Ids of one document, without BOS or EOS; kUncountedBit (shard_format.h) is set in those that
  /// the loss does not count.
  std::span<const uint32_t> document(int64_t index) const;
  /// Hash of the files' content and the tokenizer: names the shard, and goes into run.json.
  const std::string& key() const { return key_; }

 private:
  MappedFile file_;
  std::string key_;
  int64_t num_counted_ = 0;
  CorpusCounts counts_;
  std::span<const uint64_t> offsets_;  // [documents + 1]
  std::span<const uint32_t> ids_;
};

/// The shard of these files as the options read them, under this tokenizer: opened from
/// `cache_folder` if it is there, else tokenized with `num_threads` threads (with a progress line),
/// written atomically and opened. A damaged shard in the cache is reported and made again. An empty
/// corpus throws Error.
TokenShard open_token_shard(const std::vector<std::filesystem::path>& files,
                            const Tokenizer& tokenizer, const std::filesystem::path& cache_folder,
                            int num_threads, const DocumentOptions& options = {});

/// $TIGON_CACHE, else $XDG_CACHE_HOME/tigon, else ~/.cache/tigon.
std::filesystem::path default_cache_folder();

}  // namespace tigon
