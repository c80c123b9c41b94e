// A sweep's YAML: one training config, and what varies.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/config_reader.h"

namespace tigon {

/// A key of the training config and its value as YAML on one line: what `tigon train` takes as
/// key.path=value.
struct Setting {
  std::string key, value;

  std::string as_override() const { return key + "=" + value; }
  bool operator==(const Setting&) const = default;
};

/// One key of `grid` with its values.
struct Variation {
  std::string key;
  std::vector<std::string> values;
};

/// One entry of `list`.
struct Variant {
  std::string name;  // empty: made from its settings
  std::vector<Setting> settings;
};

struct SweepConfig {
  std::filesystem::path file, base;
  std::vector<Setting> set;            // of all runs
  std::vector<std::string> overrides;  // of all runs, from the command line; they win over `set`
  std::vector<Variation> grid;         // every combination …
  std::vector<Variant> list;           // … with each of these, if there are any
  std::vector<int64_t> seeds;          // each run with each seed; empty: the base config's seed
  std::filesystem::path folder;
  int64_t parallel = 1;  // runs at a time on one device
  /// Where runs go: "cpu", or GPUs ("cuda:0", …). Never empty.
  std::vector<std::string> devices;

  bool is_on_cpu() const { return devices.front() == "cpu"; }
};

/// Reads and checks a sweep, all problems at once (ConfigError). An override whose first word is a
/// key of sweeps (folder, seeds, …) replaces that key; any other one is for the training config of
/// every run. `base` is looked for beside the file, then from the working directory.
SweepConfig read_sweep_config(const std::filesystem::path& file,
                              const std::vector<std::string>& overrides);

}  // namespace tigon
