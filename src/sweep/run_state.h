// Where a run of a sweep stands, read from its folder.
#pragma once
#include <filesystem>
#include <string>

#include "train/config.h"

namespace tigon {

enum class RunStage { kWaiting, kRunning, kDone, kFailed, kInterrupted };

struct RunState {
  RunStage stage = RunStage::kWaiting;
  std::string reason;                                   // of a failure
  int64_t step = 0, planned_steps = 0;                  // planned 0: not known yet
  double tokens_per_s = 0, loss = 0;                    // of the last step
  double trained_loss = 0, seconds = 0, recovered = 0;  // of a run that is done
  bool has_results = false, has_recovered = false;
};

/// The stage that a folder's files tell while no process is at work there: waiting (nothing yet),
/// interrupted (it can be resumed), failed or done. A run counts as done if it is complete and was
/// started with `config`, the device, threads and folders of it apart. Throws UsageError if the
/// folder holds a run of another config that cannot be continued with this one.
RunState read_run_state(const RunConfig& config);

/// Fills in steps, rate and loss from the last line of metrics.jsonl, and results from run.json.
void read_run_progress(const std::filesystem::path& folder, RunState& state);

/// Why a run that ended with an error did: run.json's word, else the last error in train.log.
std::string failure_reason(const std::filesystem::path& folder);

}  // namespace tigon
