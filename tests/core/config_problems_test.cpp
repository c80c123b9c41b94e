// Every fault of a config has a message with its line; all of them come at once.
#include <string>

#include "core/config_reader.h"
#include "support/catch.h"
#include "support/refusal.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

/// Reads a config with `read`; the one problem must be this line.
template <class Read>
void check_one_problem(const std::string& yaml, const Read& read, const std::string& problem) {
  ConfigReader reader = ConfigReader::from_text(yaml, "x.yaml");
  read(reader);
  check_refused<ConfigError>([&] { reader.finish(); }, "x.yaml: 1 problem\n  " + problem);
}

}  // namespace

TEST_CASE("config: all problems at once, sorted by line, with the nearest known keys") {
  ConfigReader reader = ConfigReader::from_text(R"(model: m
lora:
  rnk: 8
  alpha: -1
optimizer:
  lr: 3e-4x
  betas: {b1: 0.9}
seeed: 1
)",
                                                "configs/x.yaml");
  reader.section("optimizer").number("lr", above(0));
  ConfigReader lora = reader.section("lora");
  lora.integer("rank", at_least(1));
  lora.number("alpha", at_least(0));
  reader.text("model");
  reader.text("run");
  reader.integer("seed", 0);
  check_refused<ConfigError>([&] { reader.finish(); },
                             "configs/x.yaml: 7 problems\n"
                             "  run: missing (expected a text)\n"
                             "  line 2  lora.rank: missing (expected an integer ≥ 1)\n"
                             "  line 3  lora.rnk: unknown key (did you mean lora.rank?)\n"
                             "  line 4  lora.alpha: expected a number ≥ 0, found \"-1\"\n"
                             "  line 6  optimizer.lr: expected a number > 0, found \"3e-4x\"\n"
                             "  line 7  optimizer.betas: unknown key\n"
                             "  line 8  seeed: unknown key (did you mean seed?)");
}

TEST_CASE("config: a ConfigError is a UsageError") {
  CHECK(std::is_base_of_v<UsageError, ConfigError>);
}

TEST_CASE("config: values of the wrong type") {
  const auto integer = [](ConfigReader& reader) {
    CHECK(reader.integer("a", 5, between(1, 9)) == 5);
  };
  check_one_problem("a: x\n", integer, "line 1  a: expected an integer from 1 to 9, found \"x\"");
  check_one_problem("a: 10\n", integer, "line 1  a: expected an integer from 1 to 9, found \"10\"");
  check_one_problem("a: '5'\n", integer, "line 1  a: expected an integer from 1 to 9, found \"5\"");
  check_one_problem("a: 2.5\n", integer,
                    "line 1  a: expected an integer from 1 to 9, found \"2.5\"");
  check_one_problem("a: [1]\n", integer,
                    "line 1  a: expected an integer from 1 to 9, found a list");
  check_one_problem("a: {b: 1}\n", integer,
                    "line 1  a: expected an integer from 1 to 9, found a section");
  const auto number = [](ConfigReader& reader) { CHECK(reader.number("a", 0.5) == 0.5); };
  check_one_problem("a: .nan\n", number, "line 1  a: expected a number, found \".nan\"");
  check_one_problem("a: inf\n", number, "line 1  a: expected a number, found \"inf\"");
  check_one_problem("a: 1e999\n", number, "line 1  a: expected a number, found \"1e999\"");
  const auto flag = [](ConfigReader& reader) { CHECK(reader.flag("a", true)); };
  check_one_problem("a: yes\n", flag, "line 1  a: expected true or false, found \"yes\"");
  check_one_problem("a: 'false'\n", flag, "line 1  a: expected true or false, found \"false\"");
  const auto choice = [](ConfigReader& reader) { CHECK(reader.choice("a", {"p", "q"}) == "p"); };
  check_one_problem("a: r\n", choice, "line 1  a: expected one of p, q, found \"r\"");
  check_one_problem("\n", choice, "a: missing (expected one of p, q)");
  const auto text = [](ConfigReader& reader) { CHECK(reader.text("a").empty()); };
  check_one_problem("a: [x]\n", text, "line 1  a: expected a text, found a list");
  const auto texts = [](ConfigReader& reader) { CHECK(reader.texts("a").empty()); };
  check_one_problem("a: [x, [y]]\n", texts,
                    "line 1  a: expected a text or a list of them, found a list");
  check_one_problem("\n", texts, "a: missing (expected a text or a list of them)");
  const auto integers = [](ConfigReader& reader) {
    CHECK(reader.integers("a", {1}, at_least(0)) == std::vector<int64_t>{1});
  };
  check_one_problem("a: [1, -1]\n", integers,
                    "line 1  a: expected an integer ≥ 0 or a list of them, found a list");
}

TEST_CASE("config: a required number with a problem reads as something in its range") {
  ConfigReader reader = ConfigReader::from_text("a: 0\nb: 0\n", "x.yaml");
  CHECK(reader.integer("a", at_least(4)) == 4);
  CHECK(reader.number("b", above(0)) > 0);
}

TEST_CASE("config: a value where a section belongs is one problem") {
  const auto read = [](ConfigReader& reader) {
    ConfigReader lora = reader.section("lora");
    lora.integer("rank", at_least(1));
    lora.section("deep").text("name", "");
  };
  check_one_problem("\nlora: 8\n", read, "line 2  lora: expected a section, found \"8\"");
}

TEST_CASE("config: a key given twice") {
  const auto read = [](ConfigReader& reader) { CHECK(reader.section("b").integer("c") == 1); };
  check_one_problem("b:\n  c: 1\n  c: 2\n", read, "line 3  b.c: given twice (first on line 2)");
}

TEST_CASE("config: keys that are no words") {
  check_one_problem(
      "b:\n  [1, 2]: 3\n", [](ConfigReader& reader) { reader.section("b"); },
      "line 2  b: expected keys that are words");
}

TEST_CASE("config: problems across fields point at the field") {
  const auto read = [](ConfigReader& reader) {
    ConfigReader model = reader.section("model");
    const int64_t heads = model.integer("heads");
    model.problem("heads", "6 does not divide " + std::to_string(heads));
    model.problem("heads", "6 does not divide " + std::to_string(heads));
  };
  check_one_problem("model:\n  heads: 16\n", read, "line 2  model.heads: 6 does not divide 16");
}

TEST_CASE("config: text that is no config is refused at once") {
  const auto refuse = [](const std::string& yaml, const std::string& message) {
    check_refused<ConfigError>([&] { ConfigReader::from_text(yaml, "x.yaml"); }, message);
  };
  refuse("a: [1\nb: 2\n", "x.yaml line 2: not valid YAML: ");
  refuse("a: *nowhere\n", "x.yaml line 1: not valid YAML: ");
  refuse("- 1\n", "x.yaml: expected keys and values, found a list");
  refuse("word\n", "x.yaml: expected keys and values, found \"word\"");
  refuse("a: 1\n---\nb: 2\n", "x.yaml: expected one YAML document, found 2");
  refuse("a: " + std::string(50, '[') + std::string(50, ']') + "\n", "or 32 levels");
}

TEST_CASE("config: aliases cannot make a small file grow without bound") {
  std::string yaml = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    const std::vector<std::string> copies(10, fmt::format("*a{}", i - 1));
    yaml += fmt::format("a{0}: &a{0} [{1}]\n", i, fmt::join(copies, ", "));
  }
  check_refused<ConfigError>([&] { ConfigReader::from_text(yaml, "x.yaml"); },
                             "more than 100000 values");
}

TEST_CASE("config: problems of entries name the key and its line") {
  check_one_problem(
      "set:\n  a.b: 1\n",
      [](ConfigReader& reader) {
        reader.problem("set", reader.entries("set").at(0), "expected another value");
      },
      "line 2  set.a.b: expected another value");
  check_one_problem(
      "set: 3\n", [](ConfigReader& reader) { reader.entries("set"); },
      "line 1  set: expected a section, found \"3\"");
}
