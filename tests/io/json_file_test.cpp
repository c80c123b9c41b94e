#include "io/json_file.h"

#include <string>

#include "core/error.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"

using namespace tigon;
using namespace tigon::testing;

TEST_CASE("json: a written file reads back, keys in the same order") {
  const TemporaryFolder folder;
  const Json value = {{"z", 1}, {"a", {{"list", {1, 2}}}}, {"text", "é"}, {"none", nullptr}};
  write_json_file(folder / "x.json", value);
  CHECK(read_json_file(folder / "x.json") == value);
  const std::string text = read_text_file(folder / "x.json");
  CHECK(text.starts_with("{\n  \"z\": 1,\n"));
  CHECK(text.ends_with("}\n"));
}

TEST_CASE("json: broken text names file and fault") {
  const auto refuse = [](const std::string& text, const std::string& message) {
    check_refused<Error>([&] { parse_json(text, "x.json"); }, message);
  };
  refuse("", "x.json: not valid JSON: ");
  refuse("{\"a\": 1", "x.json: not valid JSON: ");
  refuse("{\"a\": 1} 2", "x.json: not valid JSON: ");
  refuse("{\"a\": \"\xff\"}", "x.json: not valid JSON: ");
  refuse("{\"a\": {\"b\": 1, \"c\": 2, \"b\": 3}}", "x.json: key \"b\" appears twice");
  refuse(std::string(65, '[') + std::string(65, ']'), "x.json: JSON nested deeper than 64 levels");
  // Deep enough to end a recursive parser.
  refuse(std::string(1000000, '['), "x.json: JSON nested deeper than 64 levels");
  std::string many = "{\"k\":0";
  for (int key = 0; key < 20000; ++key) many += ",\"k" + std::to_string(key) + "\":0";
  refuse(many + "}", "x.json: an object of more than 20000 keys");
}

TEST_CASE("json: 64 levels and equal keys in different objects are fine") {
  CHECK_NOTHROW(parse_json(std::string(64, '[') + std::string(64, ']'), "x.json"));
  CHECK(parse_json(R"([{"a": 1}, {"a": {"a": 2}}])", "x.json")[1]["a"]["a"] == 2);
}

TEST_CASE("json: files are missing or too large") {
  const TemporaryFolder folder;
  check_refused<Error>([&] { read_json_file(folder / "x.json"); }, "x.json: No such file");
  const auto path = folder.write("x.json", "[1, 2, 3]");
  CHECK(read_text_file(path, 9).size() == 9);
  check_refused<Error>([&] { read_json_file(path, 8); },
                       "x.json: expected at most 8 bytes, found 9");
}
