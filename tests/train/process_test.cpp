// Runs in processes of their own, that are killed, interrupted or denied disk space.
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <thread>

#include "io/json_file.h"
#include "support/catch.h"
#include "support/child_process.h"
#include "train/checkpoint_folder.h"
#include "train/tiny_run.h"

using namespace tigon;
using namespace tigon::testing;
namespace fs = std::filesystem;

namespace {

std::vector<std::string> train_command(const TinyRun& run, const std::vector<std::string>& more) {
  std::vector<std::string> command = {TIGON_BINARY_FOLDER "/tigon", "train",
                                      run.config_file().string()};
  command.insert(command.end(), more.begin(), more.end());
  return command;
}

/// Waits until a run has written this many lines; false if it ended before.
bool wait_for_lines(ChildProcess& child, const fs::path& metrics_file, size_t lines) {
  constexpr auto kMostWait = std::chrono::seconds(60);
  const auto start = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - start < kMostWait) {
    if (lines_without_timing(metrics_file).size() >= lines) return true;
    if (child.has_ended()) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(300));
  }
  return false;
}

void require_success(const ChildResult& result) {
  INFO(result.standard_error);
  REQUIRE(result.exit_code == 0);
}

std::string tensor_file(const fs::path& run_folder) {
  return read_text_file(run_folder / "checkpoints" / "last" / "adapter_model.safetensors");
}

}  // namespace

TEST_CASE("a run killed at a random step resumes to the same losses, byte for byte", "[process]") {
  const TinyRun run;
  const std::vector<std::string> overrides = {"train.steps=60", "train.checkpoint_every=3",
                                              "train.schedule={kind: plateau, patience: 0}"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), overrides.begin(), overrides.end());
    return train_command(run, more);
  };
  require_success(run_program(with({run.in_folder("whole")})));
  const auto expected = lines_without_timing(run.folder() / "whole" / "metrics.jsonl");
  REQUIRE(expected.size() == 60 + 15);

  std::random_device device;
  const fs::path metrics_file = run.run_folder() / "metrics.jsonl";
  for (int kill = 0; kill < 3; ++kill) {
    ChildProcess child(
        with(kill == 0 ? std::vector<std::string>{} : std::vector<std::string>{"--resume"}));
    const size_t lines = 1 + device() % 20 + 20 * static_cast<size_t>(kill);
    INFO("kill " << kill << " once there are " << lines << " lines");
    REQUIRE(wait_for_lines(child, metrics_file, lines));
    std::this_thread::sleep_for(std::chrono::microseconds(device() % 20000));
    child.send_signal(SIGKILL);
    CHECK(child.wait().signal == SIGKILL);
  }
  require_success(run_program(with({"--resume"})));
  CHECK(lines_without_timing(metrics_file) == expected);
  CHECK(tensor_file(run.run_folder()) == tensor_file(run.folder() / "whole"));
  CHECK(read_json_file(run.run_folder() / "run.json").at("results") ==
        read_json_file(run.folder() / "whole" / "run.json").at("results"));
}

TEST_CASE("SIGTERM and SIGINT save and exit with their codes", "[process]") {
  for (const auto& [signal, exit_code] : {std::pair{SIGTERM, 143}, std::pair{SIGINT, 130}}) {
    const TinyRun run;
    const fs::path folder = run.run_folder();
    const std::string constant = "train.schedule={kind: constant}";
    ChildProcess child(
        train_command(run, {"train.steps=100000", "train.validate_every=0", constant}));
    REQUIRE(wait_for_lines(child, folder / "metrics.jsonl", 3));
    child.send_signal(signal);
    const ChildResult result = child.wait();
    INFO(result.standard_error);
    CHECK(result.exit_code == exit_code);
    CHECK(read_json_file(folder / "run.json").at("status") == "interrupted");
    const CheckpointFolder checkpoints(folder / "checkpoints");
    const auto lines = lines_without_timing(folder / "metrics.jsonl");
    REQUIRE(checkpoints.step_of("last").has_value());
    CHECK(*checkpoints.step_of("last") == Json::parse(lines.back()).at("step").get<int64_t>());
    // Nothing was lost: the resumed run goes on with the step after the saved one.
    const std::string steps = fmt::format("train.steps={}", *checkpoints.step_of("last") + 2);
    require_success(
        run_program(train_command(run, {steps, "train.validate_every=0", constant, "--resume"})));
    const auto resumed = lines_without_timing(folder / "metrics.jsonl");
    CHECK(resumed.size() == lines.size() + 3);  // two steps and the last validation
    CHECK(std::equal(lines.begin(), lines.end(), resumed.begin()));
  }
}

TEST_CASE("a full disk leaves the previous checkpoint as it was", "[process]") {
  const TinyRun run;
  auto overrides = TinyRun::random_model(run);
  // The optimizer's file is then the largest of all: 2 · 4 bytes for each of 62,000 parameters.
  overrides.insert(overrides.end(),
                   {"model.intermediate_size=128", "train.schedule={kind: constant}"});
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), overrides.begin(), overrides.end());
    return train_command(run, more);
  };
  require_success(run_program(with({"train.steps=4"})));
  const CheckpointFolder checkpoints(run.run_folder() / "checkpoints");
  const fs::path last = checkpoints.step_path(4);
  const int64_t optimizer_bytes =
      static_cast<int64_t>(fs::file_size(last / "optimizer.safetensors"));
  const int64_t report_bytes =
      static_cast<int64_t>(fs::file_size(run.run_folder() / "report.html"));
  REQUIRE(optimizer_bytes > report_bytes + 50000);
  const std::string state = read_text_file(last / "trainer_state.json");

  const ChildResult result =
      run_program(with({"--resume"}), {.max_file_bytes = optimizer_bytes - 1000});
  INFO(result.standard_error);
  CHECK(result.exit_code == 1);
  CHECK(result.standard_error.find("optimizer.safetensors") != std::string::npos);
  CHECK(checkpoints.step_of("last") == 4);
  CHECK(read_text_file(last / "trainer_state.json") == state);
  for (const auto& entry : fs::directory_iterator(run.run_folder() / "checkpoints")) {
    INFO(entry.path());
    CHECK((entry.is_symlink() || entry.path() == last));
  }

  require_success(run_program(with({"--resume"})));
  require_success(run_program(with({run.in_folder("whole")})));
  CHECK(lines_without_timing(run.run_folder() / "metrics.jsonl") ==
        lines_without_timing(run.folder() / "whole" / "metrics.jsonl"));
}

TEST_CASE("config errors end the program with exit code 2", "[process]") {
  const TinyRun run;
  const ChildResult result =
      run_program(train_command(run, {"train.stps=3", "train.optimizer.lr=-1"}));
  CHECK(result.exit_code == 2);
  CHECK(result.standard_error.find("train.stps") != std::string::npos);
  CHECK(result.standard_error.find("train.optimizer.lr") != std::string::npos);
  CHECK_FALSE(fs::exists(run.run_folder()));
}

TEST_CASE("a dry run prints to stdout and succeeds", "[process]") {
  const TinyRun run;
  const ChildResult result = run_program(train_command(run, {"--dry-run"}));
  require_success(result);
  CHECK(result.standard_output.find("training time") != std::string::npos);
}
