#include "data/data_source.h"

#include "core/config_reader.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

struct Read {
  std::vector<DataSource> sources;
  std::string resolved;
};

Read read(const std::string& yaml) {
  ConfigReader root = ConfigReader::from_text(yaml, "run.yaml");
  ConfigReader data = root.section("data");
  const DocumentOptions defaults = read_document_options(data);
  Read result{read_data_sources(data, "train", defaults, true), {}};
  root.finish();
  result.resolved = root.resolved_yaml();
  return result;
}

}  // namespace

TEST_CASE("data entries are paths or mappings, and the resolved config reads back") {
  const TemporaryFolder folder;
  const std::string text = folder.write("a.txt", "x").string();
  const std::string records = folder.write("b.jsonl", "{}").string();
  const auto check_same = [](const std::string& yaml) {
    const Read first = read(yaml);
    CHECK(read(first.resolved).resolved == first.resolved);
    return first.sources;
  };
  for (const std::string& value : {text, "[" + text + "]"}) {
    const auto sources = check_same("data: {train: " + value + "}");
    REQUIRE(sources.size() == 1);
    CHECK(sources[0].paths == std::vector<std::string>{text});
    CHECK(sources[0].documents.separator == std::string(1, '\0'));
    CHECK_FALSE(is_weighted(sources));
  }
  const auto mixed = check_same("data:\n  field: body\n  on_bad_record: skip\n  train:\n    - " +
                                text + "\n    - " + text + "\n    - {path: [" + records +
                                "], format: alpaca}\n    - {path: " + records + "}\n");
  REQUIRE(mixed.size() == 3);
  CHECK(mixed[0].paths.size() == 2);
  CHECK((mixed[1].documents.format == "alpaca" && mixed[1].documents.mask_prompt));
  CHECK(mixed[1].documents.on_bad_record == "skip");
  CHECK(mixed[2].documents.field == "body");
  const auto weighted = check_same("data:\n  train:\n    - {path: " + text +
                                   ", weight: 3, epochs: 2}\n    - {path: " + records +
                                   ", weight: 0.5, max_tokens: 1M, format: chat, chat_template: "
                                   "chatml, mask_prompt: false}\n");
  REQUIRE(weighted.size() == 2);
  CHECK((weighted[0].weight == 3 && weighted[0].epochs == 2));
  CHECK(weighted[1].max_tokens == 1'000'000);
  CHECK((weighted[1].documents.field.empty() && !weighted[1].documents.mask_prompt));
}

TEST_CASE("all problems of data entries come at once, with line and key") {
  const TemporaryFolder folder;
  const std::string text = folder.write("a.txt", "x").string();
  const std::string yaml =
      "data:\n  train:\n    - {path: " + text +
      ", weight: -1}\n    - {path: absent.jsonl, wieght: 2}\n    - {path: " + text +
      ", format: chat}\n    - {path: " + text +
      ", epochs: 2, mask_prompt: true}\n    - other.csv\n";
  for (const char* expected :
       {"line 3  data.train[0].weight: expected a number > 0, found \"-1\"",
        "line 4  data.train[1].path: expected an existing file or folder, found nothing at "
        "'absent.jsonl'",
        "line 4  data.train[1].wieght: unknown key (did you mean data.train[1].weight?)",
        "line 5  data.train[2].chat_template: missing",
        "line 5  data.train[2].path: ", "a text file has no records for format: chat",
        "line 6  data.train[3].mask_prompt: only used with format: alpaca or chat, found text",
        "line 6  data.train[3].weight: missing", "line 7  data.train[4]: expected an existing"}) {
    check_refused<ConfigError>([&] { read(yaml); }, expected);
  }
  check_refused<ConfigError>(
      [&] { read("data:\n  train: [{path: " + text + ", weight: 1}, " + text + "]"); },
      "data.train[1].weight: missing (expected a weight for every entry or for none)");
}
