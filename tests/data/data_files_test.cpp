#include "data/data_files.h"

#include "data/file_kind.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

std::vector<std::string> names(const TemporaryFolder& folder, const std::string& pattern) {
  std::vector<std::string> found;
  for (const auto& file : find_data_files((folder / pattern).string())) {
    found.push_back(std::filesystem::relative(file, folder.path()).string());
  }
  return found;
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("a file's kind follows from its endings") {
  using enum Content;
  const std::vector<std::pair<std::string, FileKind>> cases = {
      {"a.txt", {kText, Packing::kNone}},        {"a.xz", {kText, Packing::kXz}},
      {"a.txt.gz", {kText, Packing::kGzip}},     {"a.v2.zst", {kText, Packing::kZstd}},
      {"a.jsonl", {kJsonLines, Packing::kNone}}, {"a.ndjson.zst", {kJsonLines, Packing::kZstd}},
      {"a.json.xz", {kJsonArray, Packing::kXz}}, {"a.parquet", {kParquet, Packing::kNone}},
  };
  for (const auto& [name, kind] : cases) {
    INFO(name);
    CHECK(file_kind(name) == kind);
  }
  for (const char* name : {"a", "a.csv", "txt", "a.parquet.gz", "a.TXT"}) {
    INFO(name);
    CHECK(!find_file_kind(name));
    check_refused([&] { file_kind(name); }, "expected a .txt, .jsonl, .ndjson or .json file");
  }
}

TEST_CASE("folders and patterns give their data files sorted") {
  const TemporaryFolder folder;
  for (const char* name : {"b.txt", "a.jsonl", "sub/c.txt.gz", "sub/deep/d.json", "README.md",
                           ".hidden.txt", ".git/e.txt", "x[1].txt"}) {
    folder.write(name, "");
  }
  CHECK(names(folder, "") ==
        Names{"a.jsonl", "b.txt", "sub/c.txt.gz", "sub/deep/d.json", "x[1].txt"});
  CHECK(names(folder, "sub") == Names{"sub/c.txt.gz", "sub/deep/d.json"});
  CHECK(names(folder, "*") == Names{"a.jsonl", "b.txt", "x[1].txt"});
  CHECK(names(folder, "?.txt") == Names{"b.txt"});
  CHECK(names(folder, "[ab].*") == Names{"a.jsonl", "b.txt"});
  CHECK(names(folder, "*/*.gz") == Names{"sub/c.txt.gz"});
  CHECK(names(folder, "**/*.json") == Names{"sub/deep/d.json"});
  CHECK(names(folder, "**/*.txt*") == Names{"b.txt", "sub/c.txt.gz", "x[1].txt"});
  CHECK(names(folder, "s*/**") == Names{"sub/c.txt.gz", "sub/deep/d.json"});
  CHECK(names(folder, "**/**/d.json") == Names{"sub/deep/d.json"});
  // A file of that very name comes before the pattern.
  CHECK(names(folder, "x[1].txt") == Names{"x[1].txt"});
  CHECK(names(folder, ".*.txt") == Names{".hidden.txt"});
}

TEST_CASE("paths that stand for no file are refused by name") {
  const TemporaryFolder folder;
  folder.write("sub/README.md", "");
  check_refused([&] { names(folder, "*.txt"); }, "*.txt: expected a pattern of data files");
  check_refused([&] { names(folder, "sub"); }, "sub: expected a folder with data files");
  check_refused([&] { names(folder, "absent.txt"); }, "found nothing at");
  check_refused([&] { names(folder, "sub/*"); }, "found none that match");
}
