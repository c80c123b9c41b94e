// Where a run stands: everything that a checkpoint must bring back besides tensors.
#pragma once
#include <optional>

#include "io/json_file.h"

namespace tigon {

struct TrainerState {
  int64_t step = 0;    // steps done
  int64_t tokens = 0;  // tokens read
  double wall_seconds = 0;
  std::optional<double> best_loss;  // of the validations
  int64_t best_step = 0;
  int64_t validations_without_improvement = 0;
  bool is_stopped_early = false;
  Json data_position;   // Loader::position
  Json schedule_state;  // Schedule::state
};

Json trainer_state_to_json(const TrainerState& state);
/// Throws Error naming the file for a missing key or a wrong type.
TrainerState read_trainer_state(const std::filesystem::path& file);

}  // namespace tigon
