// Whole sweeps, by the program: they end, fail, are killed and go on.
#include <signal.h>

#include <chrono>
#include <thread>

#include "support/child_process.h"
#include "sweep/run_summary.h"
#include "sweep/tiny_sweep.h"

using namespace tigon;
using namespace tigon::testing;
namespace fs = std::filesystem;

namespace {

std::vector<std::string> sweep_command(const TinySweep& sweep,
                                       const std::vector<std::string>& more = {}) {
  std::vector<std::string> command = {TIGON_BINARY_FOLDER "/tigon", "sweep", sweep.file().string()};
  command.insert(command.end(), more.begin(), more.end());
  return command;
}

ChildResult run_sweep_program(const TinySweep& sweep, const std::vector<std::string>& more = {}) {
  return run_program(sweep_command(sweep, more));
}

Json run_json(const TinySweep& sweep, const std::string& name) {
  return read_json_file(sweep.folder() / name / "run.json");
}

size_t count_of(const std::string& text, const std::string& word) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(word, at)) != std::string::npos; at += word.size()) ++count;
  return count;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// Waits until a run has done this many steps; false if the sweep ended before.
bool wait_for_steps(ChildProcess& child, const fs::path& run_folder, size_t steps) {
  constexpr auto kMostWait = std::chrono::seconds(60);
  const auto start = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - start < kMostWait) {
    if (lines_without_timing(run_folder / "metrics.jsonl").size() >= steps) return true;
    if (child.has_ended()) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

// Long enough to be stopped on the way; nothing but steps.
constexpr const char* kLongRuns =
    "set: {train.steps: 150, train.validate_every: 0, train.schedule: {kind: constant}}\n";

}  // namespace

TEST_CASE("a sweep runs its runs, measures baselines once and reports", "[sweep][process]") {
  const TinySweep sweep("grid: {linearize.window_keys: [4, 8]}\nparallel: 2\n");
  const ChildResult dry = run_sweep_program(sweep, {"--dry-run"});
  INFO(dry.standard_error);
  CHECK(dry.exit_code == 0);
  CHECK(contains(dry.standard_output, "window_keys-8"));
  CHECK(contains(dry.standard_output, "0 of 2 done, 2 waiting"));
  CHECK_FALSE(fs::exists(sweep.folder()));

  const ChildResult result = run_sweep_program(sweep);
  INFO(result.standard_error);
  REQUIRE(result.exit_code == 0);
  CHECK(contains(result.standard_output, "| window_keys-4"));
  CHECK(contains(result.standard_output, "| window_keys-8"));
  CHECK(fs::exists(sweep.folder() / "report.html"));
  CHECK(contains(result.standard_error, "window_keys-4: starts on cpu"));
  CHECK(contains(result.standard_error, "2 of 2 done"));

  const Json four = run_json(sweep, "window_keys-4"), eight = run_json(sweep, "window_keys-8");
  CHECK(four.at("status") == "complete");
  const auto loss = [](const Json& run, const char* row) {
    return run["results"][row]["nats_per_token"].get<double>();
  };
  CHECK(loss(four, "teacher") == loss(eight, "teacher"));
  CHECK(loss(four, "own_window") != loss(eight, "own_window"));
  CHECK(four["state"]["is_constant"] == true);
  CHECK(four["state"]["bytes"] < eight["state"]["bytes"]);
  CHECK(four["weight_change"]["all"].get<double>() > 0);
  // Each loss was measured in one of the two processes: one progress line each.
  std::string logs;
  for (const char* name : {"window_keys-4", "window_keys-8"}) {
    logs += read_text_file(sweep.folder() / name / "train.log");
  }
  CHECK(count_of(logs, "\nteacher  100%") == 1);
  CHECK(count_of(logs, "\nwindow_only  100%") == 1);
  CHECK(count_of(logs, "\nconverted  100%") == 2);

  // What is done is left alone.
  const std::string before = read_text_file(sweep.folder() / "window_keys-4/run.json");
  CHECK(run_sweep_program(sweep).exit_code == 0);
  CHECK(read_text_file(sweep.folder() / "window_keys-4/run.json") == before);
  // Another sweep may not take over its folders.
  const ChildResult other = run_sweep_program(sweep, {"train.optimizer.lr=0.5"});
  CHECK(other.exit_code == 2);
  CHECK(contains(other.standard_error, "was started with another config"));
  CHECK(contains(other.standard_error, "train.optimizer.lr: 0.003 → 0.5"));
}

TEST_CASE("a run that fails is kept, shown and not fatal to the others", "[sweep][process]") {
  const TinySweep sweep(
      "list:\n  - {name: wild, train.optimizer: {lr: 1e38, clip_norm: 0}, train.schedule: null}\n"
      "  - {name: calm}\n");
  const ChildResult result = run_sweep_program(sweep);
  INFO(result.standard_error);
  CHECK(result.exit_code == 1);
  CHECK(contains(result.standard_error, "1 of 2 runs are not done"));
  CHECK(contains(result.standard_output, "| calm"));
  CHECK(contains(result.standard_output, "- wild: failed: step "));
  CHECK(run_json(sweep, "calm").at("status") == "complete");

  const std::string log = read_text_file(sweep.folder() / "wild/train.log");
  CHECK(run_sweep_program(sweep).exit_code == 1);
  CHECK(read_text_file(sweep.folder() / "wild/train.log") == log);
  CHECK(run_sweep_program(sweep, {"--retry-failed"}).exit_code == 1);
  CHECK(count_of(read_text_file(sweep.folder() / "wild/train.log"), "\nerror: ") == 2);
}

TEST_CASE("a run that cannot begin is a failed run", "[sweep][process]") {
  const TinySweep sweep("grid: {data.seq_len: [32, 100000]}\n");
  const ChildResult result = run_sweep_program(sweep);
  INFO(result.standard_error);
  CHECK(result.exit_code == 1);
  CHECK(contains(result.standard_output,
                 "- seq_len-100000: failed: rows: expected at least one row of 100000 tokens"));
  // It left nothing but its log, and is tried again.
  CHECK_FALSE(fs::exists(sweep.folder() / "seq_len-100000/config.yaml"));
  CHECK(run_sweep_program(sweep).exit_code == 1);
  CHECK(count_of(read_text_file(sweep.folder() / "seq_len-100000/train.log"), "\nerror: ") == 2);
}

TEST_CASE("an interrupted sweep saves and goes on", "[sweep][process]") {
  const TinySweep sweep(std::string(kLongRuns) + "grid: {lora.rank: [2, 4, 8]}\nparallel: 2\n");
  ChildProcess child(sweep_command(sweep));
  REQUIRE(wait_for_steps(child, sweep.folder() / "rank-4", 5));
  child.send_signal(SIGINT);
  const ChildResult result = child.wait();
  INFO(result.standard_error);
  CHECK(result.exit_code == 130);
  CHECK(run_json(sweep, "rank-4").at("status") == "interrupted");
  CHECK_FALSE(fs::exists(sweep.folder() / "rank-8"));
  CHECK(contains(result.standard_output, "- rank-4: unfinished, step "));
  CHECK(contains(result.standard_output, "- rank-8: waiting"));

  const ChildResult again = run_sweep_program(sweep);
  INFO(again.standard_error);
  CHECK(again.exit_code == 0);
  for (const char* name : {"rank-2", "rank-4", "rank-8"}) {
    CHECK(run_json(sweep, name).at("status") == "complete");
    CHECK(lines_without_timing(sweep.folder() / name / "metrics.jsonl").size() == 151);
  }
  CHECK(contains(read_text_file(sweep.folder() / "rank-4/train.log"), "continuing after step"));
}

TEST_CASE("a killed sweep goes on to the same losses", "[sweep][process]") {
  const TinySweep sweep(std::string(kLongRuns) + "seeds: [0, 1]\n");
  ChildProcess child(sweep_command(sweep));
  const fs::path metrics = sweep.folder() / "run_seed-0/metrics.jsonl";
  REQUIRE(wait_for_steps(child, metrics.parent_path(), 5));
  child.send_signal(SIGKILL);
  CHECK(child.wait().signal == SIGKILL);
  // Its run ends by itself, and the second call waits for that.
  const ChildResult again = run_sweep_program(sweep);
  INFO(again.standard_error);
  REQUIRE(again.exit_code == 0);

  std::vector<std::string> whole = sweep.plan().runs[0].overrides;
  whole.push_back(sweep.run().in_folder("whole"));
  whole.insert(whole.begin(),
               {TIGON_BINARY_FOLDER "/tigon", "train", sweep.run().config_file().string()});
  REQUIRE(run_program(whole).exit_code == 0);
  CHECK(lines_without_timing(metrics) ==
        lines_without_timing(sweep.run().folder() / "whole/metrics.jsonl"));
}

TEST_CASE("tigon report writes a table, CSV, HTML and JSON", "[report][process]") {
  const TinySweep sweep("grid: {lora.rank: [2, 4]}\n");
  REQUIRE(run_sweep_program(sweep).exit_code == 0);
  const fs::path csv = sweep.run().folder() / "runs.csv", html = sweep.run().folder() / "runs.html";
  const ChildResult result =
      run_program({TIGON_BINARY_FOLDER "/tigon", "report", sweep.folder().string(), "--csv",
                   csv.string(), "--html", html.string()});
  INFO(result.standard_error);
  REQUIRE(result.exit_code == 0);
  CHECK(contains(result.standard_output, "| rank-2"));
  CHECK(contains(read_text_file(csv), "rank-4,"));
  CHECK(contains(read_text_file(html), "runs/rank-4/report.html"));
  const ChildResult json = run_program(
      {TIGON_BINARY_FOLDER "/tigon", "report", (sweep.folder() / "rank-2").string(), "--json"});
  CHECK(Json::parse(json.standard_output).at("groups").at(0).at("name") == "rank-2");
  const ChildResult none =
      run_program({TIGON_BINARY_FOLDER "/tigon", "report", (csv.parent_path() / "no").string()});
  CHECK(none.exit_code == 2);
}
