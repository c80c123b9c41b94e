#include "generate/sample_file.h"

#include "core/error.h"
#include "data/corpus.h"
#include "io/json_file.h"
#include "support/catch.h"
#include "support/temporary_folder.h"

using namespace tigon;
using namespace tigon::testing;

TEST_CASE("samples in a text file are read back as documents") {
  const TemporaryFolder folder;
  SampleFile file(folder / "samples.txt");
  CHECK(file.holds_documents());
  file.add("first line\nsecond line", std::vector<int64_t>{1, 2});
  file.add(std::string("a \0\n b", 6), std::vector<int64_t>{});
  file.add("the last", std::vector<int64_t>{3});
  CHECK_FALSE(std::filesystem::exists(folder / "samples.txt"));
  file.commit();
  std::vector<std::string> documents;
  for_each_document({folder / "samples.txt"},
                    [&](Document&& document) { documents.push_back(document.pieces[0].text); });
  CHECK(documents == std::vector<std::string>{"first line\nsecond line", "a \n b", "the last"});
}

TEST_CASE("samples in a .jsonl file are one object a line") {
  const TemporaryFolder folder;
  SampleFile file(folder / "samples.jsonl");
  CHECK_FALSE(file.holds_documents());
  file.add("two\nlines \"quoted\"", std::vector<int64_t>{7, 8});
  file.add("bad \xff byte", std::vector<int64_t>{});
  file.commit();
  const std::string text = read_text_file(folder / "samples.jsonl");
  const size_t border = text.find('\n');
  CHECK(Json::parse(text.substr(0, border)) ==
        Json({{"text", "two\nlines \"quoted\""}, {"tokens", {7, 8}}}));
  CHECK(Json::parse(text.substr(border + 1))["tokens"].empty());
}

TEST_CASE("an unfinished sample file leaves nothing, another ending is refused") {
  const TemporaryFolder folder;
  {
    SampleFile file(folder / "samples.txt");
    file.add("text", std::vector<int64_t>{1});
  }
  CHECK(std::filesystem::is_empty(folder.path()));
  CHECK_THROWS_AS(SampleFile(folder / "samples.csv"), UsageError);
  CHECK_THROWS_WITH(SampleFile(folder / "samples.csv"),
                    Catch::Contains("ends in .txt or .jsonl, found '.csv'"));
  CHECK(std::filesystem::is_empty(folder.path()));
}
