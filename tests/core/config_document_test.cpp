// Overrides, inherited defaults and the resolved config.
#include "core/config_reader.h"
#include "support/catch.h"
#include "support/refusal.h"

using namespace tigon;
using namespace tigon::testing;

TEST_CASE("config: overrides replace, add and make sections") {
  ConfigReader reader = ConfigReader::from_text(
      "lora: {rank: 8, alpha: 8}\nlist: [1]\nempty:\n", "x.yaml",
      {"lora.rank=16", "list=[2, 3]", "data.path=a=b", "empty.x=1", "lora.alpha=", "data.path=c"});
  CHECK(reader.section("lora").integer("rank") == 16);
  CHECK(reader.section("lora").number("alpha", 0.5) == 0.5);
  CHECK(reader.integers("list", {}) == std::vector<int64_t>{2, 3});
  CHECK(reader.section("data").text("path") == "c");
  CHECK(reader.section("empty").integer("x") == 1);
  CHECK_NOTHROW(reader.finish());
}

TEST_CASE("config: overrides without the right form are refused at once") {
  const auto refuse = [](const std::string& override, const std::string& message) {
    check_refused<ConfigError>(
        [&] { ConfigReader::from_text("recipe: window\nl: [1]\n", "x.yaml", {override}); },
        message);
  };
  refuse("seed", "override \"seed\": expected the form key.path=value");
  refuse("=3", "override \"=3\": expected the form key.path=value");
  refuse(".a=3", "expected the form key.path=value");
  refuse("a..b=3", "expected the form key.path=value");
  refuse("a.=3", "expected the form key.path=value");
  refuse("a=[1", "override \"a=[1\" line 1: not valid YAML");
  refuse("recipe.mix=1", "expected recipe to be a section, found \"window\"");
  refuse("l.x=1", "expected l to be a section, found a list");
}

TEST_CASE("config: problems of an override show its text instead of a line") {
  ConfigReader reader = ConfigReader::from_text("lora: {rank: 8}\n", "x.yaml",
                                                {"lora.rnk=4", "lora.rank=many", "other.x=1"});
  reader.section("lora").integer("rank", at_least(1));
  check_refused<ConfigError>(
      [&] { reader.finish(); },
      "x.yaml: 3 problems\n"
      "  override \"lora.rank=many\"  lora.rank: expected an integer ≥ 1, found \"many\"\n"
      "  override \"lora.rnk=4\"  lora.rnk: unknown key (did you mean lora.rank?)\n"
      "  override \"other.x=1\"  other: unknown key");
}

TEST_CASE("config: a section inherits what it does not say itself") {
  ConfigReader reader = ConfigReader::from_text(
      "linearize:\n  recipe: liger-gla\n  mix: 0.25\n  hybrid: {every: 4}\n", "x.yaml");
  ConfigReader section = reader.section("linearize");
  CHECK(section.text("recipe") == "liger-gla");
  section.inherit("recipe: base\nmix: 0.5\nwindow_keys: 64\nhybrid: {every: 8, first: 1}\n",
                  "recipes/liger-gla.yaml");
  CHECK(section.text("recipe") == "liger-gla");
  CHECK(section.number("mix") == 0.25);
  CHECK(section.integer("window_keys") == 64);
  CHECK(section.section("hybrid").integer("every") == 4);
  CHECK(section.section("hybrid").integer("first") == 1);
  CHECK_NOTHROW(reader.finish());
}

TEST_CASE("config: inheriting fills absent sections, and an empty base adds nothing") {
  ConfigReader reader = ConfigReader::from_text("a: 1\n", "x.yaml");
  reader.integer("a");
  ConfigReader section = reader.section("linearize");
  section.inherit("", "empty.yaml");
  section.inherit("mix: 0.5\n", "base.yaml");
  CHECK(section.number("mix") == 0.5);
  CHECK_NOTHROW(reader.finish());
  check_refused<ConfigError>([&] { section.inherit("[1]", "base.yaml"); },
                             "base.yaml: expected keys and values, found a list");
}

TEST_CASE("config: problems in an inherited file name that file") {
  ConfigReader reader = ConfigReader::from_text("a: x\n", "x.yaml");
  reader.integer("a", 0);
  reader.inherit("b: 1\nc: wrong\n", "base.yaml");
  reader.integer("c");
  check_refused<ConfigError>([&] { reader.finish(); },
                             "x.yaml: 3 problems\n"
                             "  line 1  a: expected an integer, found \"x\"\n"
                             "  base.yaml line 1  b: unknown key (did you mean a?)\n"
                             "  base.yaml line 2  c: expected an integer, found \"wrong\"");
}

TEST_CASE("config: the resolved config holds everything asked for, in order, defaults included") {
  ConfigReader reader = ConfigReader::from_text("train: {lr: 1e-3, tokens: 20M}\nname: run\n",
                                                "x.yaml", {"train.seed=7"});
  reader.text("name");
  reader.text("folder", "12");
  reader.text("note", "");
  ConfigReader train = reader.section("train");
  train.integer("tokens");
  train.number("lr");
  train.number("weight_decay", 0.01);
  train.integer("seed", 0);
  train.flag("resume", false);
  train.section("schedule").integers("milestones", {1, 2});
  reader.texts("targets", {"q_proj", "true"});
  reader.section("nothing_read_here");
  CHECK(reader.resolved_yaml() ==
        "name: run\n"
        "folder: \"12\"\n"
        "note: \"\"\n"
        "train:\n"
        "  tokens: 20000000\n"
        "  lr: 0.001\n"
        "  weight_decay: 0.01\n"
        "  seed: 7\n"
        "  resume: false\n"
        "  schedule:\n"
        "    milestones: [1, 2]\n"
        "targets: [q_proj, \"true\"]\n");
}

TEST_CASE("config: the resolved config reads back to the same values") {
  const std::vector<std::string> texts = {"null",     "~",    "a: b", "- x", "tab\there", "#",
                                          "line\nin", "1e-3", "é",    "",    " x ",       "[1]"};
  const auto read = [&](const std::string& yaml) {
    ConfigReader reader = ConfigReader::from_text(yaml, "x.yaml");
    CHECK(reader.texts("texts", texts) == texts);
    CHECK(reader.number("third", 1.0 / 3) == 1.0 / 3);
    CHECK(reader.integers("none", {}).empty());
    CHECK_NOTHROW(reader.finish());
    return reader.resolved_yaml();
  };
  const std::string resolved = read("");
  CHECK(read(resolved) == resolved);
}

TEST_CASE("config: only the root reader finishes") {
  ConfigReader reader = ConfigReader::from_text("a: {}\n", "x.yaml");
  ConfigReader section = reader.section("a");
  CHECK_THROWS_AS(section.finish(), std::logic_error);
  CHECK_THROWS_AS(section.resolved_yaml(), std::logic_error);
}
