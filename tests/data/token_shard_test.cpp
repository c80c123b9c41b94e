#include "data/token_shard.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>

#include "core/error.h"
#include "data/byte_tokenizer.h"
#include "data/corpus_files.h"
#include "data/shard_format.h"
#include "data/shard_writer.h"
#include "support/catch.h"
#include "support/file_size_limit.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"

using namespace tigon::testing;
using tigon::open_token_shard;
using tigon::ShardHeader;
using tigon::ShardTrailer;
using tigon::TokenShard;
namespace fs = std::filesystem;

namespace {

constexpr const char* kKey = "0123456789abcdef0123456789abcdef";

std::string read_bytes(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  return files;
}

/// Three documents of 2, 0 and 3 ids.
std::string small_shard(const TemporaryFolder& folder) {
  tigon::ShardWriter writer(folder.path() / "good.tokens", kKey);
  writer.add_document(std::vector<int32_t>{10, 11});
  writer.add_document({});
  writer.add_document(std::vector<int32_t>{12, 13, 14});
  CHECK((writer.num_documents() == 3 && writer.num_tokens() == 5));
  writer.commit();
  return read_bytes(folder.path() / "good.tokens");
}

template <class Value>
std::string overwritten(std::string bytes, size_t position, const Value& value) {
  std::memcpy(bytes.data() + position, &value, sizeof(value));
  return bytes;
}

/// Sets a variable of the environment for one scope.
class Environment {
 public:
  Environment(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    set(value);
  }
  ~Environment() { set(old_ ? old_->c_str() : nullptr); }

 private:
  void set(const char* value) { value == nullptr ? ::unsetenv(name_) : ::setenv(name_, value, 1); }
  const char* name_;
  std::optional<std::string> old_;
};

}  // namespace

TEST_CASE("a shard holds what was written") {
  const TemporaryFolder folder;
  small_shard(folder);
  TokenShard opened(folder.path() / "good.tokens");
  const TokenShard shard = std::move(opened);
  CHECK(shard.key() == kKey);
  CHECK((shard.num_documents() == 3 && shard.num_tokens() == 5));
  const auto ids = [&](int64_t i) {
    return std::vector<uint32_t>(shard.document(i).begin(), shard.document(i).end());
  };
  CHECK(ids(0) == std::vector<uint32_t>{10, 11});
  CHECK(ids(1).empty());
  CHECK(ids(2) == std::vector<uint32_t>{12, 13, 14});
  for (const int64_t index : {-1, 3}) {
    check_refused([&] { shard.document(index); },
                  "expected a document from 0 to 2, found " + std::to_string(index));
  }
}

TEST_CASE("a shard that was not committed does not appear") {
  const TemporaryFolder folder;
  {
    tigon::ShardWriter writer(folder.path() / "a.tokens", kKey);
    writer.add_document(std::vector<int32_t>{1});
  }
  CHECK(folder.names().empty());
  check_refused([&] { tigon::ShardWriter(folder.path() / "a.tokens", "short"); },
                "expected a key of 32 digits, found \"short\"");
}

TEST_CASE("damaged shard files are refused") {
  const TemporaryFolder folder;
  const std::string good = small_shard(folder);
  const auto refuse = [&](const std::string& bytes, const std::string& message) {
    const auto path = folder.write("bad.tokens", bytes);
    check_refused([&] { TokenShard shard(path); }, "bad.tokens: " + message);
  };
  const size_t trailer = good.size() - sizeof(ShardTrailer);
  // 16 bytes of header, five ids, four bytes of padding, four offsets.
  const size_t offsets = 16 + 20 + 4;
  REQUIRE(trailer == offsets + 4 * sizeof(uint64_t));
  refuse("", "expected a token shard of at least 112 bytes, found 0");
  refuse(good.substr(0, 100), "expected a token shard of at least 112 bytes, found 100");
  refuse("x" + good.substr(1), "expected a token shard, found another file");
  refuse(overwritten(good, offsetof(ShardHeader, version), uint64_t{3}),
         "expected version 2, found 3");
  refuse(good.substr(0, good.size() - 4), "the shard is cut off: its trailer is missing");
  refuse(good.substr(0, 16) + good.substr(20), "expected the size of 3 documents and 5 tokens");
  const size_t documents_at = trailer + offsetof(ShardTrailer, num_documents);
  const size_t tokens_at = trailer + offsetof(ShardTrailer, num_tokens);
  for (const uint64_t lie : {uint64_t{0}, uint64_t{4}, uint64_t{1} << 61, ~uint64_t{0}}) {
    refuse(overwritten(good, documents_at, lie), "expected the size of");
    refuse(overwritten(good, tokens_at, lie), "expected the size of");
  }
  refuse(overwritten(good, trailer + offsetof(ShardTrailer, num_counted), uint64_t{6}),
         "expected at most 5 counted tokens, found 6");
  refuse(overwritten(good, offsets, uint64_t{1}), "expected document offsets rising from 0 to 5");
  refuse(overwritten(good, offsets + 8, uint64_t{6}), "expected document offsets rising from 0");
  refuse(overwritten(good, offsets + 24, uint64_t{4}), "expected document offsets rising from 0");
  refuse(overwritten(good, trailer + offsetof(ShardTrailer, key), '/'),
         "expected a key of 32 hexadecimal digits");
}

TEST_CASE("a shard that changes under its reader is noticed") {
  const TemporaryFolder folder;
  const std::string good = small_shard(folder);
  const TokenShard shard(folder.path() / "good.tokens");
  const size_t offsets = 16 + 20 + 4;
  std::fstream file(folder.path() / "good.tokens", std::ios::in | std::ios::out | std::ios::binary);
  const uint64_t lie = 1000;
  file.seekp(offsets + 8);
  file.write(reinterpret_cast<const char*>(&lie), sizeof(lie));
  file.close();
  check_refused([&] { shard.document(0); }, "its file was changed while in use");
}

TEST_CASE("a corpus is tokenized once and then found in the cache") {
  const TemporaryFolder folder;
  const auto file = folder.write("a.txt", join_documents({"one", "two", "  ", "three"}));
  const ByteTokenizer tokenizer;
  const fs::path cache = folder.path() / "some" / "cache";
  const TokenShard made = open_token_shard({file}, tokenizer, cache, 2);
  CHECK(tokenizer.num_calls == 4);
  CHECK((made.num_documents() == 4 && made.num_tokens() == 11));
  CHECK(made.document(2).empty());
  const TokenShard found = open_token_shard({file}, tokenizer, cache, 2);
  CHECK(tokenizer.num_calls == 4);
  CHECK(found.key() == made.key());
  // The same content under another name is the same corpus.
  fs::rename(file, folder.path() / "b.txt");
  CHECK(open_token_shard({folder.path() / "b.txt"}, tokenizer, cache, 1).key() == made.key());
  CHECK(tokenizer.num_calls == 4);
  CHECK(files_in(cache) == std::vector{cache / (made.key() + ".tokens")});
}

TEST_CASE("other content or another tokenizer is another shard") {
  const TemporaryFolder folder;
  const fs::path cache = folder.path() / "cache";
  const auto a = folder.write("a.txt", "one"), b = folder.write("b.txt", "two");
  ByteTokenizer tokenizer;
  std::vector<std::string> keys;
  for (const std::vector<fs::path>& files : {std::vector{a}, {b}, {a, b}, {b, a}}) {
    keys.push_back(open_token_shard(files, tokenizer, cache, 1).key());
  }
  folder.write("a.txt", "one!");
  keys.push_back(open_token_shard({a}, tokenizer, cache, 1).key());
  tokenizer.fingerprint_text = "other bytes";
  keys.push_back(open_token_shard({a}, tokenizer, cache, 1).key());
  std::sort(keys.begin(), keys.end());
  CHECK(std::adjacent_find(keys.begin(), keys.end()) == keys.end());
}

TEST_CASE("a damaged shard in the cache is made again") {
  const TemporaryFolder folder;
  const auto file = folder.write("a.txt", "some text");
  const ByteTokenizer tokenizer;
  const fs::path cache = folder.path() / "cache";
  const std::string key = open_token_shard({file}, tokenizer, cache, 1).key();
  const fs::path path = cache / (key + ".tokens");
  const std::string good = read_bytes(path);
  // Cut off, and another corpus's shard under this name.
  small_shard(folder);
  for (const std::string& bad : {good.substr(0, 100), read_bytes(folder.path() / "good.tokens")}) {
    std::ofstream(path, std::ios::binary) << bad;
    CHECK(open_token_shard({file}, tokenizer, cache, 1).num_tokens() == 8);
    CHECK(read_bytes(path) == good);
  }
}

TEST_CASE("an empty corpus is refused and leaves nothing behind") {
  const TemporaryFolder folder;
  const fs::path cache = folder.path() / "cache";
  check_refused([&] { open_token_shard({}, ByteTokenizer(), cache, 1); },
                "expected at least one text file, found none");
  for (const std::string& text : {std::string(), std::string("\n\n"), std::string("\0\n", 2)}) {
    const auto file = folder.write("a.txt", text);
    check_refused([&] { open_token_shard({file}, ByteTokenizer(), cache, 1); },
                  "a.txt: expected text, found 0 documents and no token");
  }
  const auto blank = folder.write("a.txt", join_documents({"  ", "   "}));
  check_refused([&] { open_token_shard({blank}, ByteTokenizer(), cache, 1); },
                "a.txt: expected text, found 2 documents and no token");
  CHECK(files_in(cache).empty());
}

TEST_CASE("an unreadable corpus or cache is refused and leaves nothing behind") {
  const TemporaryFolder folder;
  const fs::path cache = folder.path() / "cache";
  const auto bad = folder.write("bad.xz", "not xz");
  check_refused([&] { open_token_shard({bad}, ByteTokenizer(), cache, 2); }, "bad.xz");
  check_refused([&] { open_token_shard({"absent.txt"}, ByteTokenizer(), cache, 2); }, "absent.txt");
  CHECK(files_in(cache).empty());
  const auto good = folder.write("good.txt", "text");
  check_refused([&] { open_token_shard({good}, ByteTokenizer(), good / "cache", 2); },
                "cannot make the cache folder");
}

TEST_CASE("a shard that does not fit on the disk is an error and leaves nothing behind") {
  const TemporaryFolder folder;
  const auto file = folder.write("a.txt", std::string(100000, 'x'));
  const fs::path cache = folder.path() / "cache";
  {
    const FileSizeLimit limit(65536);
    check_refused([&] { open_token_shard({file}, ByteTokenizer(), cache, 1); }, ".tokens");
  }
  CHECK(files_in(cache).empty());
  CHECK(open_token_shard({file}, ByteTokenizer(), cache, 1).num_tokens() == 100000);
}

TEST_CASE("two processes may make the same shard at once") {
  const TemporaryFolder folder;
  const auto file = folder.write("a.txt", std::string(3000000, 'x'));
  const fs::path cache = folder.path() / "cache";
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      int status = 1;
      try {
        const TokenShard shard = open_token_shard({file}, ByteTokenizer(), cache, 1);
        status = shard.num_tokens() == 3000000 && shard.document(0).back() == 'x' ? 0 : 2;
      } catch (...) {
      }
      ::_exit(status);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0));
  }
  CHECK(files_in(cache).size() == 1);
}

TEST_CASE("the cache folder follows the environment") {
  const Environment own("TIGON_CACHE", "/own"), xdg("XDG_CACHE_HOME", "/xdg"), home("HOME", "/me");
  CHECK(tigon::default_cache_folder() == "/own");
  const Environment no_own("TIGON_CACHE", nullptr);
  CHECK(tigon::default_cache_folder() == "/xdg/tigon");
  const Environment relative("XDG_CACHE_HOME", "relative");
  CHECK(tigon::default_cache_folder() == "/me/.cache/tigon");
  const Environment no_home("HOME", nullptr);
  check_refused([] { tigon::default_cache_folder(); }, "expected TIGON_CACHE or HOME to be set");
}
