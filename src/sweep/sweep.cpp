#include "sweep/sweep.h"

#include <algorithm>
#include <csignal>
#include <memory>
#include <thread>

#include "core/interrupt.h"
#include "core/log.h"
#include "io/file_lock.h"
#include "sweep/child_run.h"
#include "train/run_folder.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

constexpr auto kPollInterval = std::chrono::milliseconds(50);
constexpr auto kProgressInterval = std::chrono::milliseconds(500);
constexpr int kSignalled = 128;  // exit codes 130 and 143 say: saved, then ended by a signal

void make_folder(const fs::path& folder) {
  std::error_code code;
  fs::create_directories(folder, code);
  if (code) fail("folder: cannot create {}: {}", folder.string(), code.message());
}

/// Waits for another call in this folder; false if a signal came first.
bool wait_for_folder(FileLock& lock, const fs::path& folder) {
  for (bool has_said_so = false; !lock.try_lock(); has_said_so = true) {
    if (!has_said_so) {
      log_warning("sweep", "another sweep, or a run of one, is at work in {}: waiting for it",
                  folder.string());
    }
    if (pending_interrupt() != 0) return false;
    std::this_thread::sleep_for(kPollInterval);
  }
  return true;
}

class Runner {
 public:
  Runner(const SweepPlan& plan, const SweepOptions& options)
      : plan_(plan), options_(options), display_(plan.config.folder.string()) {
    for (const std::string& device : plan.config.devices) {
      for (int64_t i = 0; i < plan.config.parallel; ++i) slots_.push_back({device, nullptr, 0});
    }
  }

  SweepOutcome run() {
    outcome_.runs = read_sweep_state(plan_);
    for (size_t i = 0; i < plan_.runs.size(); ++i) {
      if (is_to_do(outcome_.runs[i].state.stage)) todo_.push_back(i);
    }
    std::ranges::reverse(todo_);  // taken from the end
    display_.update(outcome_.runs);
    while (true) {
      pass_on_signal();
      for (Slot& slot : slots_) {
        if (slot.child) look_at(slot);
        if (!slot.child && !todo_.empty() && outcome_.interrupted_by == 0) start(slot);
      }
      if (std::ranges::none_of(slots_, [](const Slot& slot) { return slot.child != nullptr; })) {
        break;
      }
      read_progress();
      display_.update(outcome_.runs);
      std::this_thread::sleep_for(kPollInterval);
    }
    display_.finish(outcome_.runs);
    return std::move(outcome_);
  }

 private:
  /// A place for one run at a time.
  struct Slot {
    std::string device;
    std::unique_ptr<ChildRun> child;
    size_t run = 0;
  };

  bool is_to_do(RunStage stage) const {
    return stage == RunStage::kWaiting || stage == RunStage::kInterrupted ||
           (stage == RunStage::kFailed && options_.retry_failed);
  }

  void start(Slot& slot) {
    slot.run = todo_.back();
    todo_.pop_back();
    const SweepRun& run = plan_.runs[slot.run];
    const fs::path folder = run.config.run_folder;
    make_folder(folder);
    std::vector<std::string> command = {options_.program.string(), "train",
                                        plan_.config.base.string()};
    command.insert(command.end(), run.overrides.begin(), run.overrides.end());
    if (fs::exists(folder / "config.yaml")) command.emplace_back("--resume");
    slot.child =
        std::make_unique<ChildRun>(command, environment_for(slot.device), folder / kRunLog);
    ShownRun& shown = outcome_.runs[slot.run];
    shown.device = slot.device;
    shown.state = RunState{};
    shown.state.stage = RunStage::kRunning;
  }

  /// Frees the slot if its run has ended.
  void look_at(Slot& slot) {
    const std::optional<ChildExit> exit = slot.child->poll();
    if (!exit) return;
    slot.child.reset();
    ShownRun& shown = outcome_.runs[slot.run];
    const RunConfig& config = plan_.runs[slot.run].config;
    shown.device.clear();
    shown.state = read_run_state(config);
    if (shown.state.stage == RunStage::kDone) return;
    if (exit->code == kSignalled + SIGINT || exit->code == kSignalled + SIGTERM) {
      shown.state.stage = RunStage::kInterrupted;
    } else if (exit->signal != 0 && outcome_.interrupted_by != 0) {
      // A second signal ended it before it had saved.
      shown.state.stage = RunStage::kInterrupted;
    } else {
      shown.state.stage = RunStage::kFailed;
      shown.state.reason = exit->signal != 0 ? fmt::format("ended by signal {}", exit->signal)
                                             : failure_reason(config.run_folder);
    }
  }

  void pass_on_signal() {
    if (outcome_.interrupted_by != 0) return;
    outcome_.interrupted_by = pending_interrupt();
    if (outcome_.interrupted_by == 0) return;
    for (const Slot& slot : slots_) {
      if (slot.child) slot.child->send_signal(outcome_.interrupted_by);
    }
  }

  void read_progress() {
    const auto now = std::chrono::steady_clock::now();
    if (now - last_read_ < kProgressInterval) return;
    last_read_ = now;
    for (const Slot& slot : slots_) {
      if (!slot.child) continue;
      read_run_progress(plan_.runs[slot.run].config.run_folder, outcome_.runs[slot.run].state);
    }
  }

  const SweepPlan& plan_;
  const SweepOptions& options_;
  SweepDisplay display_;
  SweepOutcome outcome_;
  std::vector<Slot> slots_;
  std::vector<size_t> todo_;  // runs, the next one last
  std::chrono::steady_clock::time_point last_read_;
};

}  // namespace

int64_t SweepOutcome::count(RunStage stage) const {
  return std::ranges::count(runs, stage, [](const ShownRun& run) { return run.state.stage; });
}

std::vector<ShownRun> read_sweep_state(const SweepPlan& plan) {
  std::vector<ShownRun> runs;
  std::string problems;
  for (const SweepRun& run : plan.runs) {
    ShownRun& shown = runs.emplace_back(ShownRun{run.name, "", {}});
    try {
      shown.state = read_run_state(run.config);
    } catch (const UsageError& error) {
      problems += (problems.empty() ? "" : "\n") + std::string(error.what());
    }
  }
  if (!problems.empty()) throw UsageError(problems);
  return runs;
}

SweepOutcome run_sweep(const SweepPlan& plan, const SweepOptions& options) {
  const fs::path& folder = plan.config.folder;
  read_sweep_state(plan);  // refuses before anything is written
  make_folder(folder);
  FileLock lock(folder / "sweep.lock");
  if (!wait_for_folder(lock, folder)) return {read_sweep_state(plan), pending_interrupt()};
  lock.share_with_children();
  write_json_file(folder / kSweepFile, sweep_to_json(plan));
  return Runner(plan, options).run();
}

}  // namespace tigon
