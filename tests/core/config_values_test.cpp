// What a correct config reads as.
#include "core/config_reader.h"
#include "core/config_scalar.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

constexpr const char* kConfig = R"(# purpose and command
model: models/teacher
lora:
  rank: 8
  alpha: 16.5
  targets: [q_proj, v_proj]
train:
  tokens: 20M
  lr: 1e-3
  shuffle: true
  layers: [3, 5]
  schedule: {kind: cosine, warmup_steps: 1_000}
)";

}  // namespace

TEST_CASE("config: values of every type, sections and lists") {
  ConfigReader reader = ConfigReader::from_text(kConfig, "x.yaml");
  CHECK(reader.text("model") == "models/teacher");
  ConfigReader lora = reader.section("lora");
  CHECK(lora.integer("rank", at_least(1)) == 8);
  CHECK(lora.number("alpha", above(0)) == 16.5);
  CHECK(lora.texts("targets") == std::vector<std::string>{"q_proj", "v_proj"});
  ConfigReader train = reader.section("train");
  CHECK(train.integer("tokens") == 20'000'000);
  CHECK(train.number("lr") == 1e-3);
  CHECK(train.flag("shuffle", false));
  CHECK(train.integers("layers", {}, at_least(0)) == std::vector<int64_t>{3, 5});
  ConfigReader schedule = train.section("schedule");
  CHECK(schedule.choice("kind", {"constant", "cosine"}) == "cosine");
  CHECK(schedule.integer("warmup_steps", 0, at_least(0)) == 1000);
  CHECK_NOTHROW(reader.finish());
}

TEST_CASE("config: entries of a list are read one by one, and resolve to the list") {
  ConfigReader reader = ConfigReader::from_text(
      "a:\n  - word\n  - {n: 2, deep: [{m: 3}]}\nb: {n: 4}\nc: one\n", "x.yaml");
  std::vector<ConfigReader> a = reader.items("a");
  REQUIRE(a.size() == 2);
  CHECK(a[0].is_scalar(""));
  CHECK(a[0].text("") == "word");
  CHECK_FALSE(a[1].is_scalar(""));
  CHECK(a[1].integer("n") == 2);
  CHECK(a[1].items("deep").at(0).integer("m") == 3);
  CHECK(a[1].flag("flag", true));
  // What is no list is its only entry.
  CHECK(reader.items("b").at(0).integer("n") == 4);
  CHECK(reader.items("c").at(0).text("") == "one");
  CHECK(reader.items("absent").empty());
  CHECK_NOTHROW(reader.finish());
  CHECK(reader.resolved_yaml() ==
        "a: [word, {n: 2, deep: [{m: 3}], flag: true}]\nb:\n  n: 4\nc: one\n");
}

TEST_CASE("config: a problem inside a list names the entry and its line") {
  ConfigReader reader =
      ConfigReader::from_text("a:\n  - {n: 1}\n  - {n: x}\n  - {k: 1}\n", "x.yaml");
  for (ConfigReader& item : reader.items("a")) item.integer("n");
  check_refused<ConfigError>([&] { reader.finish(); },
                             "line 3  a[1].n: expected an integer, found \"x\"");
  check_refused<ConfigError>([&] { reader.finish(); }, "line 4  a[2].k: unknown key");
  check_refused<ConfigError>([&] { reader.finish(); }, "line 4  a[2].n: missing");
}

TEST_CASE("config: absent and null keys give the defaults, also below absent sections") {
  ConfigReader reader = ConfigReader::from_text("a: null\nempty:\n", "x.yaml");
  CHECK(reader.integer("a", 3) == 3);
  CHECK_FALSE(reader.has("a"));
  CHECK_FALSE(reader.has("b"));
  CHECK(reader.text("b", "word") == "word");
  CHECK(reader.section("empty").number("x", 0.5) == 0.5);
  ConfigReader absent = reader.section("absent");
  CHECK(absent.section("deep").flag("x", true));
  CHECK(absent.texts("names", {"n"}) == std::vector<std::string>{"n"});
  CHECK(absent.integers("numbers", {1, 2}) == std::vector<int64_t>{1, 2});
  CHECK(absent.choice("choice", {"a", "b"}, "b") == "b");
  CHECK_NOTHROW(reader.finish());
}

TEST_CASE("config: an empty file is a config without keys") {
  for (const char* text : {"", "# nothing\n", "---\n"}) {
    ConfigReader reader = ConfigReader::from_text(text, "x.yaml");
    CHECK(reader.integer("a", 1) == 1);
    CHECK_NOTHROW(reader.finish());
  }
}

TEST_CASE("config: one value stands for a list of one; is_scalar tells them apart") {
  ConfigReader reader = ConfigReader::from_text("a: x\nb: [1]\nc: 2\nd: {}\n", "x.yaml");
  CHECK(reader.is_scalar("a"));
  CHECK_FALSE(reader.is_scalar("b"));
  CHECK_FALSE(reader.is_scalar("d"));
  CHECK_FALSE(reader.is_scalar("absent"));
  CHECK(reader.texts("a") == std::vector<std::string>{"x"});
  CHECK(reader.integers("b", {}) == std::vector<int64_t>{1});
  CHECK(reader.integers("c", {}) == std::vector<int64_t>{2});
  reader.section("d");
  CHECK_NOTHROW(reader.finish());
}

TEST_CASE("config: a text may look like anything") {
  ConfigReader reader = ConfigReader::from_text("a: 12\nb: 'true'\nc: \"\"\n", "x.yaml");
  CHECK(reader.text("a") == "12");
  CHECK(reader.text("b") == "true");
  CHECK(reader.text("c").empty());
}

TEST_CASE("config: integers as people write them") {
  CHECK(parse_integer("0") == 0);
  CHECK(parse_integer("-7") == -7);
  CHECK(parse_integer("+7") == 7);
  CHECK(parse_integer("20_000_000") == 20'000'000);
  CHECK(parse_integer("20M") == 20'000'000);
  CHECK(parse_integer("512K") == 512'000);
  CHECK(parse_integer("9223372036854775807") == INT64_MAX);
  CHECK(parse_integer("-9223372036854775808") == INT64_MIN);
  for (const char* wrong : {"", "-", "M", "1.5M", "1e3", "2.0", "0x10", "1_", "_1", "1__0", "1 0",
                            "20m", "1KM", "9223372036854775808", "9223372036854776K", "+-1"}) {
    INFO(wrong);
    CHECK_FALSE(parse_integer(wrong));
  }
}

TEST_CASE("config: numbers are finite decimals") {
  CHECK(parse_number("1e-3") == 1e-3);
  CHECK(parse_number("-.5") == -0.5);
  CHECK(parse_number("+2") == 2.0);
  for (const char* wrong : {"", "nan", "inf", "-inf", ".inf", "infinity", "1e999", "3e-4x", "0x1p3",
                            "+-1", "1,5", " 1"}) {
    INFO(wrong);
    CHECK_FALSE(parse_number(wrong));
  }
}

TEST_CASE("config: ranges in words") {
  CHECK(describe("a number", {}) == "a number");
  CHECK(describe("a number", above(0)) == "a number > 0");
  CHECK(describe("an integer", at_least(1)) == "an integer ≥ 1");
  CHECK(describe("a number", between(0, 1)) == "a number from 0 to 1");
  CHECK(describe("a number", {.low = 0, .high = 1, .low_is_excluded = true}) ==
        "a number > 0 and ≤ 1");
  CHECK(describe("a number", {.high = 1}) == "a number ≤ 1");
  CHECK(is_in(between(0, 1), 1));
  CHECK_FALSE(is_in(above(0), 0));
  for (const Range& range :
       {at_least(5), above(5), between(3, 4), between(-4, -3), Range{.high = -2},
        Range{.low = 1, .high = 2, .low_is_excluded = true}}) {
    CHECK(is_in(range, some_value_in(range)));
  }
}

TEST_CASE("config: a file is read by its path") {
  const TemporaryFolder folder;
  const auto path = folder.write("x.yaml", kConfig);
  CHECK(ConfigReader::from_file(path, {"model=other"}).text("model") == "other");
  check_refused<ConfigError>([&] { ConfigReader::from_file(folder / "y.yaml"); },
                             "y.yaml: No such file");
  check_refused<ConfigError>([&] { ConfigReader::from_file(folder.path()); }, "it is a folder");
  folder.write("big.yaml", std::string((1 << 20) + 1, '#'));
  check_refused<ConfigError>([&] { ConfigReader::from_file(folder / "big.yaml"); },
                             "at most 1048576 bytes");
}

TEST_CASE("config: keys of a section that are data") {
  ConfigReader reader =
      ConfigReader::from_text("sizes: {7: 256, last: 3}\nempty: {}\nplain: 5\n", "x");
  CHECK(reader.keys() == std::vector<std::string>{"sizes", "empty", "plain"});
  ConfigReader sizes = reader.section("sizes");
  CHECK(sizes.keys() == std::vector<std::string>{"7", "last"});
  CHECK(sizes.integer("7") == 256);
  CHECK(reader.section("empty").keys().empty());
  CHECK(reader.section("absent").keys().empty());
  CHECK(reader.integer("plain") == 5);
  // Listing keys is not asking for their values.
  check_refused<ConfigError>([&] { reader.finish(); }, "sizes.last");
}
