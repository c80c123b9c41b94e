#include "train/trainer_state.h"

#include "core/error.h"

namespace tigon {
namespace {

constexpr int64_t kVersion = 1;

}  // namespace

Json trainer_state_to_json(const TrainerState& state) {
  Json best = nullptr;
  if (state.best_loss) best = *state.best_loss;
  return {{"version", kVersion},
          {"step", state.step},
          {"tokens", state.tokens},
          {"wall_seconds", state.wall_seconds},
          {"best_loss", best},
          {"best_step", state.best_step},
          {"validations_without_improvement", state.validations_without_improvement},
          {"is_stopped_early", state.is_stopped_early},
          {"data_position", state.data_position},
          {"schedule", state.schedule_state}};
}

TrainerState read_trainer_state(const std::filesystem::path& file) {
  const Json json = read_json_file(file);
  try {
    const int64_t version = json.at("version").get<int64_t>();
    if (version != kVersion) {
      fail("{}: version: expected {}, found {}", file.string(), kVersion, version);
    }
    TrainerState state;
    state.step = json.at("step").get<int64_t>();
    state.tokens = json.at("tokens").get<int64_t>();
    state.wall_seconds = json.at("wall_seconds").get<double>();
    if (!json.at("best_loss").is_null()) state.best_loss = json.at("best_loss").get<double>();
    state.best_step = json.at("best_step").get<int64_t>();
    state.validations_without_improvement =
        json.at("validations_without_improvement").get<int64_t>();
    state.is_stopped_early = json.at("is_stopped_early").get<bool>();
    state.data_position = json.at("data_position");
    state.schedule_state = json.at("schedule");
    return state;
  } catch (const Json::exception& error) {
    fail("{}: not a trainer state: {}", file.string(), error.what());
  }
}

}  // namespace tigon
