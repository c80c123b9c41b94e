// The training loop: steps, validations, checkpoints, and where to go on after an interruption.
#pragma once
#include <chrono>
#include <functional>
#include <memory>

#include "core/progress.h"
#include "train/checkpoint_folder.h"
#include "train/host_copy.h"
#include "train/metrics.h"
#include "train/schedule.h"
#include "train/step_runner.h"
#include "train/tensorboard_events.h"
#include "train/trainer_state.h"

namespace tigon {

class Trainer {
 public:
  /// Continues from RUN/checkpoints/last if there is one, else starts anew. Cuts metrics.jsonl to
  /// the checkpoint's step.
  Trainer(const RunConfig& config, RunParts& parts, const std::filesystem::path& run_folder);

  /// Trains until the configured number of steps, an early stop or an interrupt; `on_checkpoint` is
  /// called after each saved checkpoint. → the signal that ended training, or 0.
  int run(const std::function<void(const TrainerState&)>& on_checkpoint);

  const TrainerState& state() const { return state_; }
  bool is_done() const;

 private:
  struct Pending {
    int64_t step, tokens;
    double lr;
    ScalarsToHost scalars;
  };

  void resume(int64_t step);
  void train_step();
  /// Records the step whose numbers are on their way; throws Error if they are not finite.
  void record_pending();
  void validate();
  void save();
  double wall_seconds() const;
  int64_t memory() const;

  const RunConfig& config_;
  RunParts& parts_;
  CheckpointFolder checkpoints_;
  StepRunner runner_;
  Schedule schedule_;
  TrainerState state_;
  std::unique_ptr<MetricsFile> metrics_;
  std::unique_ptr<TensorBoardEvents> events_;
  std::unique_ptr<Progress> progress_;
  std::optional<Pending> pending_;
  int64_t saved_step_ = 0;
  double earlier_seconds_ = 0;  // before the run was resumed
  std::chrono::steady_clock::time_point start_, last_record_;
};

}  // namespace tigon
