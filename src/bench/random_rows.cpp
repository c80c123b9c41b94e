#include "bench/random_rows.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/random.h"
#include "data/shard_format.h"
#include "data/shard_writer.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

/// A new folder that is removed with all it holds.
class ScratchFolder {
 public:
  ScratchFolder() : path_((fs::temp_directory_path() / "tigon-XXXXXX").string()) {
    if (mkdtemp(path_.data()) == nullptr) fail("{}: cannot create a folder", path_);
  }
  ~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  fs::path path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace

Mixture random_rows(int64_t rows, int64_t seq_len, int64_t vocab_size, uint64_t seed) {
  Random random(seed);
  std::vector<int32_t> tokens(static_cast<size_t>(rows * seq_len));
  for (int32_t& token : tokens) {
    token = static_cast<int32_t>(random.below(static_cast<uint64_t>(vocab_size)));
  }
  const ScratchFolder folder;
  const fs::path file = folder.path() / "random.tokens";
  ShardWriter writer(file, std::string(kShardKeyDigits, '0'));
  writer.add_document(tokens);
  writer.commit();
  return Mixture(RowSet(TokenShard(file), {.seq_len = seq_len, .bos = "none", .order = "file"},
                        /*bos_id=*/-1, vocab_size));
}

}  // namespace tigon
