// A sweep spelled out: its runs, each with a name and a checked config.
#pragma once
#include <optional>

#include "sweep/sweep_config.h"
#include "train/config.h"

namespace tigon {

struct SweepRun {
  std::string name;             // of its folder, made from what varies: the same in every call
  std::vector<Setting> varied;  // what tells it from the others, its seed apart
  std::optional<int64_t> seed;  // where the sweep has seeds
  std::vector<std::string> overrides;  // all that `tigon train` gets behind the base config
  RunConfig config;                    // as read with them
};

struct SweepPlan {
  SweepConfig config;
  std::vector<SweepRun> runs;
};

/// The runs of a sweep in order: list entries, then the grid's combinations (its last key varies
/// fastest), then seeds. Every run's config is read: ConfigError names all that cannot be, and runs
/// that would have the same name.
SweepPlan plan_sweep(const SweepConfig& config);

/// The file in a sweep's folder that lists its runs.
inline constexpr const char* kSweepFile = "sweep.json";

/// FOLDER/sweep.json: {"sweep", "base", "runs": [{"name", "settings", "seed"}]}.
Json sweep_to_json(const SweepPlan& plan);

/// For `--dry-run` and logs: a table of names, settings and tokens.
std::string plan_to_text(const SweepPlan& plan);

}  // namespace tigon
