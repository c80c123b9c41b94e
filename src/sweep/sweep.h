// Runs the runs of a sweep, several at a time, each in a process of its own.
#pragma once
#include "sweep/sweep_display.h"
#include "sweep/sweep_plan.h"

namespace tigon {

struct SweepOptions {
  std::filesystem::path program;  // whose command `train` does a run
  bool retry_failed = false;      // continue runs that failed in an earlier call
};

struct SweepOutcome {
  std::vector<ShownRun> runs;  // in the plan's order
  int interrupted_by = 0;      // SIGINT or SIGTERM, once every run has saved; or 0

  int64_t count(RunStage stage) const;
};

/// What a call would do: each run's stage as its folder tells it. Throws UsageError if a folder
/// holds another run.
std::vector<ShownRun> read_sweep_state(const SweepPlan& plan);

/// Runs what is not done: new runs start, interrupted ones go on from their last checkpoint, failed
/// ones are left (but see retry_failed). Writes FOLDER/sweep.json first. A run that fails is kept
/// and the others go on. A signal (core/interrupt.h) is passed on to the runs, which save and end.
/// Two calls never work in one folder at the same time: the second waits, for the runs of a killed
/// call too.
SweepOutcome run_sweep(const SweepPlan& plan, const SweepOptions& options);

}  // namespace tigon
