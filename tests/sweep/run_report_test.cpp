// Reports of run folders whose numbers are known.
#include "sweep/run_report.h"

#include <cmath>
#include <sstream>

#include "support/catch.h"
#include "support/refusal.h"
#include "sweep/sweep_plan.h"
#include "sweep/written_runs.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

const RunGroup& group_named(const RunReport& report, const std::string& name) {
  const auto found = std::ranges::find(report.groups, name, &RunGroup::name);
  REQUIRE(found != report.groups.end());
  return *found;
}

std::string line_with(const std::string& text, const std::string& word) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.find(word) != std::string::npos) return line;
  }
  return {};
}

}  // namespace

TEST_CASE("mean and standard deviation", "[report]") {
  const Spread spread = spread_of({1, 2, 6});
  CHECK(spread.mean == Approx(3));
  CHECK(spread.deviation == Approx(std::sqrt(7)));
  CHECK(spread.count == 3);
  CHECK(spread_of({4}).deviation == 0);
  check_refused([] { spread_of({}); }, "at least one value");
}

TEST_CASE("a run's numbers are read from its folder", "[report]") {
  const TemporaryFolder folder;
  write_run(folder.path(), {.name = "one", .seed = 3, .trained = 3.1332, .recovered = 0.853});
  const RunSummary run = read_run_summary(folder / "one");
  CHECK(run.name == "one");
  CHECK(run.is_complete());
  CHECK(run.seed == 3);
  CHECK(run.recipe == "liger-gla");
  CHECK(run.device == "A processor");
  CHECK(run.settings.at("linearize.gate_normalizer") == "16");
  const std::map<std::string, double> expected = {{"tokens", 1e6},
                                                  {"trainable", 147456},
                                                  {"teacher", 3.1049},
                                                  {"window_only", 3.2976},
                                                  {"own_window", 3.2976},
                                                  {"converted", 6.4075},
                                                  {"trained", 3.1332},
                                                  {"branch_off", 3.1332 + 0.0125},
                                                  {"recovered", 0.853},
                                                  {"weight_change", 0.0312},
                                                  {"spikes", 0},
                                                  {"state_bytes", 49152},
                                                  {"state_bytes_per_head", 12288},
                                                  {"wall_seconds", 48.25},
                                                  {"tokens_per_s", 20725.4},
                                                  {"peak_memory_bytes", 3.0 * (1 << 30)}};
  CHECK(run.numbers == expected);
  REQUIRE(run.validations.size() == 3);
  CHECK(run.validations[0].tokens == 333333);
  CHECK(run.validations[2].loss == Approx(3.1332));
}

TEST_CASE("a run.json without `state` gives the bytes where they are constant", "[report]") {
  const TemporaryFolder folder;
  write_run(folder.path(), {.name = "one"});
  Json run = read_json_file(folder / "one/run.json");
  run.erase("state");
  run["state_bytes"] = Json::array({{{"tokens", 1024}, {"student", 5}},
                                    {{"tokens", 2048}, {"student", 700}},
                                    {{"tokens", 4096}, {"student", 700}}});
  write_json_file(folder / "one/run.json", run);
  CHECK(read_run_summary(folder / "one").numbers.at("state_bytes") == 700);
  run["state_bytes"][2]["student"] = 701;  // it grows
  write_json_file(folder / "one/run.json", run);
  CHECK_FALSE(read_run_summary(folder / "one").numbers.contains("state_bytes"));
}

TEST_CASE("seeds are one line, and only settings that differ are shown", "[report]") {
  const TemporaryFolder folder;
  write_runs(folder.path());
  const RunReport report = make_report(read_runs({folder.path()}));
  CHECK(report.runs.size() == 8);
  CHECK(report.differing == std::vector<std::string>{"linearize.recipe", "linearize.window_keys"});
  REQUIRE(report.groups.size() == 4);
  const RunGroup& seeds = group_named(report, "liger-gla_window_keys-64");
  CHECK(seeds.runs.size() == 3);
  CHECK(seeds.numbers.at("trained").mean == Approx(3.131));
  CHECK(seeds.numbers.at("trained").deviation == Approx(0.001));
  CHECK(seeds.numbers.at("recovered").mean == Approx(0.86));
  CHECK(group_named(report, "window_window_keys-16").numbers.at("trained").mean == Approx(3.28));
}

TEST_CASE("complete runs without a config are not taken for seeds of one another", "[report]") {
  const TemporaryFolder folder;
  for (const char* name : {"one", "two"}) {
    write_run(folder.path(), {.name = name});
    std::filesystem::remove(folder / name / "config.yaml");
  }
  write_run(folder.path(), {.name = "three"});
  CHECK(make_report(read_runs({folder.path()})).groups.size() == 3);
}

TEST_CASE("the markdown table has what people compare", "[report]") {
  const TemporaryFolder folder;
  write_runs(folder.path());
  const std::string text = report_to_markdown(make_report(read_runs({folder.path()})));
  INFO(text);
  const std::string header = line_with(text, "| run");
  for (const char* title : {"recipe", "window_keys", "tokens", "trained parameters", "teacher",
                            "window only", "converted", "branch off", "recovered", "state",
                            "a layer and KV head", "seconds", "tokens/s", "peak memory", "seeds"}) {
    INFO(title);
    CHECK(header.find(title) != std::string::npos);
  }
  CHECK(header.find("gate_normalizer") == std::string::npos);
  const std::string line = line_with(text, "| liger-gla_window_keys-64");
  for (const char* cell : {"3.1310 ± 0.0010", "86.0 % ± 1.0", "48.0 KiB", "12.00 KiB", "20,725",
                           "1.0 M", "147,456", "3.1049", "6.4075", "3.0 GiB", "48.2", "| 3"}) {
    INFO(cell);
    INFO(line);
    CHECK(line.find(cell) != std::string::npos);
  }
  CHECK(text.find("- liger-gla_window_keys-16: failed: step 12: the loss is nan\n") !=
        std::string::npos);
  CHECK(text.find("- liger-gla_window_keys-256: unfinished, step 12 of 30\n") != std::string::npos);
  // Every line of the table has as many cells as its header.
  const auto bars = std::ranges::count(header, '|');
  std::istringstream lines(text);
  for (std::string one; std::getline(lines, one);) {
    if (one.starts_with("|")) CHECK(std::ranges::count(one, '|') == bars);
  }
}

TEST_CASE("CSV has a line a run and numbers in full", "[report]") {
  const TemporaryFolder folder;
  write_runs(folder.path());
  write_run(folder.path(), {.name = "zz", .status = "failed", .error = "a \"quoted\", reason"});
  const std::string text = report_to_csv(make_report(read_runs({folder.path()})));
  INFO(text);
  CHECK(
      text.starts_with("run,folder,status,reason,seed,linearize.recipe,linearize.window_keys,"
                       "tokens,trainable,teacher,"));
  CHECK(std::ranges::count(text, '\n') == 1 + 8 + 1 + 1);  // one reason has two lines
  CHECK(text.find(",complete,,0,liger-gla,64,1000000,147456,3.1049,3.2976,3.2976,6.4075,3.13,") !=
        std::string::npos);
  CHECK(text.find("\"a \"\"quoted\"\", reason\"") != std::string::npos);
}

TEST_CASE("a sweep's folder gives its runs in order, those that wait included", "[report]") {
  const TemporaryFolder folder;
  write_run(folder.path(), {.name = "b"});
  folder.write("c/train.log", "$ tigon train\nerror: out of memory\n");
  write_json_file(folder / kSweepFile,
                  {{"runs", {{{"name", "c"}}, {{"name", "b"}}, {{"name", "a"}}}}});
  const std::vector<RunSummary> runs = read_runs({folder.path(), folder / "b"});
  REQUIRE(runs.size() == 3);
  CHECK(runs[0].name == "c");
  CHECK(runs[0].status == "failed");
  CHECK(runs[0].reason == "out of memory");
  CHECK(runs[1].is_complete());
  CHECK(runs[2].status == "waiting");
  const std::string text = report_to_markdown(make_report(runs));
  CHECK(text.find("- a: waiting") != std::string::npos);
}

TEST_CASE("folders that hold no runs and broken files are refused", "[report]") {
  const TemporaryFolder folder;
  check_refused<UsageError>([&] { read_runs({folder.path()}); }, "found none of them");
  check_refused<UsageError>([&] { read_runs({folder / "nowhere"}); }, "found none of them");
  write_json_file(folder / kSweepFile, {{"runs", {{{"name", "../x"}}}}});
  check_refused([&] { read_runs({folder.path()}); }, "found '../x'");
  write_json_file(folder / kSweepFile, {{"runs", 3}});
  check_refused([&] { read_runs({folder.path()}); }, "expected a list of runs");
  folder.write("bad/config.yaml", "a: [");
  check_refused([&] { read_runs({folder / "bad"}); }, "bad/config.yaml");
  folder.write("worse/run.json", "[]");
  check_refused([&] { read_runs({folder / "worse"}); }, "expected an object");
}

TEST_CASE("settings that are large numbers are shown short", "[report]") {
  CHECK(show_setting("20000000") == "20.0 M");
  CHECK(show_setting("340000") == "340,000");
  CHECK(show_setting("64") == "64");
  CHECK(show_setting("0.001") == "0.001");
  CHECK(show_setting("[q_proj]") == "[q_proj]");
}

TEST_CASE("spikes of the training loss are counted", "[report]") {
  const TemporaryFolder folder;
  write_run(folder.path(), {.name = "one"});
  std::string lines;
  for (int step = 1; step <= 60; ++step) {
    const double loss = step == 30 || step == 50 ? 4.0 : 3.0 + 0.01 * (step % 7);
    lines += Json({{"step", step}, {"tokens", 100 * step}, {"loss", loss}}).dump() + "\n";
  }
  folder.write("one/metrics.jsonl", lines);
  const RunReport report = make_report(read_runs({folder / "one"}));
  CHECK(report.groups.at(0).numbers.at("spikes").mean == 2);
  CHECK(report_to_markdown(report).find("spikes") != std::string::npos);
}
