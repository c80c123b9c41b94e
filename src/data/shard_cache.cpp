// Finding a shard in the cache by its key, or making it.
#include <cstdlib>
#include <optional>
#include <string>
#include <system_error>

#include "core/error.h"
#include "core/log.h"
#include "core/progress.h"
#include "data/content_hash.h"
#include "data/encode_corpus.h"
#include "data/file_kind.h"
#include "data/shard_format.h"
#include "data/shard_writer.h"
#include "data/token_shard.h"
#include "io/file_lock.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

// Part of the key: raised when the same files and tokenizer would give other documents.
constexpr std::string_view kCorpusRules = "documents 2";

std::string shard_key(const std::vector<fs::path>& files, const Tokenizer& tokenizer,
                      const DocumentOptions& options) {
  ContentHash hash;
  hash.add(fmt::format("shard {}", kShardVersion)).add(kCorpusRules).add(tokenizer.fingerprint());
  hash.add(fingerprint(options));
  for (const auto& file : files) {
    const FileKind kind = file_kind(file);
    hash.add(fmt::format("{} {}", static_cast<int>(kind.content), static_cast<int>(kind.packing)));
    hash.add_file(file);
  }
  return hash.hex();
}

/// The names of the files, or how many they are.
std::string join(const std::vector<fs::path>& files) {
  constexpr size_t kMaxNames = 8;
  if (files.size() > kMaxNames) {
    return fmt::format("{} files ({} … {})", files.size(), files.front().string(),
                       files.back().string());
  }
  std::string names;
  for (const auto& file : files) names += (names.empty() ? "" : ", ") + file.string();
  return names;
}

void make_folder(const fs::path& folder) {
  std::error_code code;
  fs::create_directories(folder, code);
  if (code) fail("cannot make the cache folder {}: {}", folder.string(), code.message());
}

void make_shard(const fs::path& path, const std::string& key, const std::vector<fs::path>& files,
                const Tokenizer& tokenizer, int num_threads, const DocumentOptions& options) {
  ShardWriter writer(path, key);
  // How much text a compressed file holds is not known beforehand.
  Progress progress("tokenizing", 0, "bytes");
  int64_t text_bytes = 0;
  const auto add = [&](EncodedDocument&& document) {
    writer.add_document(document.ids, document.counted);
    text_bytes += static_cast<int64_t>(document.text_bytes);
    progress.update(text_bytes, format_count(static_cast<double>(writer.num_tokens())) + " tokens");
  };
  const CorpusCounts counts = encode_corpus(files, tokenizer, num_threads, add, options);
  progress.finish();
  if (writer.num_tokens() == 0) {
    fail("{}: expected text, found {} and no token", join(files), counts_to_text(counts));
  }
  writer.commit(counts);
  log_info("data", "{} tokens in {} from {}", writer.num_tokens(), counts_to_text(counts),
           join(files));
}

/// The shard at `path` if it is there and sound.
std::optional<TokenShard> find_shard(const fs::path& path, const std::string& key) {
  if (!fs::exists(path)) return std::nullopt;
  try {
    TokenShard shard(path);
    if (shard.key() == key) return shard;
    log_warning("data", "{} holds another shard and is made again", path.string());
  } catch (const Error& error) {
    log_warning("data", "{}; it is made again", error.what());
  }
  return std::nullopt;
}

}  // namespace

TokenShard open_token_shard(const std::vector<fs::path>& files, const Tokenizer& tokenizer,
                            const fs::path& cache_folder, int num_threads,
                            const DocumentOptions& options) {
  check_document_options(options);
  if (files.empty()) fail("expected at least one text file, found none");
  const std::string key = shard_key(files, tokenizer, options);
  const fs::path path = cache_folder / (key + ".tokens");
  if (auto shard = find_shard(path, key)) return std::move(*shard);
  make_folder(cache_folder);
  // Processes that start together tokenize a corpus once: the others wait for the first.
  FileLock lock(cache_folder / (key + ".lock"));
  lock.lock();
  if (auto shard = find_shard(path, key)) return std::move(*shard);
  try {
    make_shard(path, key, files, tokenizer, num_threads, options);
  } catch (...) {
    lock.remove();  // those who wait try for themselves
    throw;
  }
  lock.remove();
  return TokenShard(path);
}

fs::path default_cache_folder() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  if (const std::string own = variable("TIGON_CACHE"); !own.empty()) return own;
  if (const fs::path cache = variable("XDG_CACHE_HOME"); cache.is_absolute())
    return cache / "tigon";
  const std::string home = variable("HOME");
  if (home.empty()) fail("no folder for the cache: expected TIGON_CACHE or HOME to be set");
  return fs::path(home) / ".cache" / "tigon";
}

}  // namespace tigon
