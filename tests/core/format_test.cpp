#include "core/format.h"

#include <limits>

#include "core/progress.h"
#include "core/suggestion.h"
#include "core/table.h"
#include "support/catch.h"

using namespace tigon;

TEST_CASE("format: bytes") {
  CHECK(format_bytes(0) == "0 B");
  CHECK(format_bytes(1023) == "1023 B");
  CHECK(format_bytes(1024) == "1.0 KiB");
  CHECK(format_bytes(1.3 * 1024 * 1024 * 1024) == "1.3 GiB");
  CHECK(format_bytes(1024.0 * 1024 - 1) == "1.0 MiB");
}

TEST_CASE("format: durations") {
  CHECK(format_duration(0.42) == "0.42 s");
  CHECK(format_duration(0.999) == "1.0 s");
  CHECK(format_duration(9.96) == "10 s");
  CHECK(format_duration(48.2) == "48 s");
  CHECK(format_duration(59.7) == "1 min 00 s");
  CHECK(format_duration(200) == "3 min 20 s");
  CHECK(format_duration(7500) == "2 h 05 min");
  CHECK(format_duration(std::numeric_limits<double>::infinity()) == "?");
}

TEST_CASE("format: counts") {
  CHECK(format_count(0) == "0");
  CHECK(format_count(3.25) == "3.2");
  CHECK(format_count(-1234) == "-1,234");
  CHECK(format_count(1024) == "1,024");
  CHECK(format_count(123456.7) == "123,457");
  CHECK(format_count(999999) == "999,999");
  CHECK(format_count(999999.6) == "1.0 M");
  CHECK(format_count(20.6e6) == "20.6 M");
  CHECK(format_count(999.96e6) == "1.0 G");
  CHECK(format_count(8.03e9) == "8.0 G");
  CHECK(format_count(15e12) == "15.0 T");
}

TEST_CASE("format: width counts characters, and a cut keeps them whole") {
  CHECK(display_width("häß – x") == 7);
  CHECK(cut_to_width("häß", 2) == "hä");
  CHECK(cut_to_width("häß", 3) == "häß");
  CHECK(cut_to_width("häß", 0).empty());
}

TEST_CASE(
    "table: columns are as wide as their widest cell, numbers to the right, words to the left") {
  CHECK(format_table({"model", "loss"}, {{"teacher", "3.105"}, {"größer", "12.5"}, {"x"}}) ==
        "model     loss\n"
        "-------  -----\n"
        "teacher  3.105\n"
        "größer    12.5\n"
        "x\n");
  CHECK(format_table({"run", "tokens", "settings"}, {{"a", "5 M", "rank=4"}, {"b", "none", ""}}) ==
        "run  tokens  settings\n"
        "---  ------  --------\n"
        "a       5 M  rank=4\n"
        "b      none\n");
}

TEST_CASE("progress: the line says how much is done, how fast, how long still") {
  ProgressState state{.title = "training",
                      .unit = "tokens",
                      .note = "loss 3.214",
                      .done = 5'000'000,
                      .total = 20'000'000,
                      .seconds = 50,
                      .bar_width = 8};
  CHECK(format_progress(state) ==
        "training  [##------]  25%  5.0 M/20.0 M tokens  100,000 tokens/s  2 min 30 s left  "
        "loss 3.214");
  state.bar_width = 0;
  state.note.clear();
  state.done = state.total;
  CHECK(format_progress(state) ==
        "training  100%  20.0 M/20.0 M tokens  400,000 tokens/s  in 50 s");
}

TEST_CASE("progress: unknown lengths, nothing done yet, more done than expected") {
  ProgressState state{.title = "reading", .unit = "rows", .note = "", .seconds = 0};
  CHECK(format_progress(state) == "reading  0 rows");
  state.done = 10;
  state.seconds = 4;
  CHECK(format_progress(state) == "reading  10 rows  2.5 rows/s  in 4.0 s");
  state.total = 8;
  state.bar_width = 4;
  CHECK(format_progress(state) == "reading  [####]  100%  10/8 rows  2.5 rows/s  in 4.0 s");
}

TEST_CASE("suggestion: edit distance counts a swap as one") {
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("rank", "rank") == 0);
  CHECK(edit_distance("rnk", "rank") == 1);
  CHECK(edit_distance("rnak", "rank") == 1);
  CHECK(edit_distance("kitten", "sitting") == 3);
}

TEST_CASE("suggestion: the nearest key, its own section first") {
  const std::vector<std::string> known = {"seed", "lora.rank", "lora.alpha", "train.rank_count",
                                          "train.rank"};
  CHECK(nearest_path("lora.rnk", known) == "lora.rank");
  CHECK(nearest_path("train.rnk", known) == "train.rank");
  CHECK(nearest_path("rank", known) == "lora.rank");
  CHECK(nearest_path("sede", known) == "seed");
  CHECK(nearest_path("lora.warmup_steps", known).empty());
}
