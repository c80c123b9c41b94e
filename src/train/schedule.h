// Learning rates: a linear warm-up, then constant, cosine or plateau.
#pragma once
#include <limits>

#include "io/json_file.h"
#include "train/config.h"

namespace tigon {

/// The rate of every step. Only `plateau` has a memory: it is told each validation loss.
class Schedule {
 public:
  /// `lr` is the peak rate, `total_steps` where cosine ends.
  Schedule(const ScheduleOptions& options, double lr, int64_t total_steps);

  /// The rate of a step, counted from 1. Warm-up: lr · step / warmup_steps. Cosine: from lr after
  /// the warm-up to lr · final_ratio at the last step.
  double rate(int64_t step) const;

  /// Plateau: after more than `patience` validations that are not better than the best by the share
  /// `threshold`, the rate is multiplied by `factor`, down to min_lr (PyTorch's ReduceLROnPlateau,
  /// mode min, threshold_mode rel, cooldown 0). The other kinds ignore it.
  void observe_validation(double loss);

  Json state() const;
  void restore(const Json& state);

 private:
  ScheduleOptions options_;
  double lr_;  // peak rate, lowered by plateau
  int64_t total_steps_;
  double best_ = std::numeric_limits<double>::infinity();
  int64_t num_bad_ = 0;
};

}  // namespace tigon
