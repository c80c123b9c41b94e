// Names of a sweep's run folders: readable, and the same whenever the sweep is read.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "sweep/sweep_config.h"

namespace tigon {

/// The keys that differ between runs, in the order of the file.
std::vector<std::string> varied_keys(const SweepConfig& config);

/// Each key's shortest ending that no other key has and that does not begin with a digit:
/// "train.optimizer.lr" → "lr", "linearize.layer_windows.7" → "layer_windows.7".
std::map<std::string, std::string> shortest_keys(const std::vector<std::string>& keys);

/// "window_window_keys-64": the variant's name (else its settings), then those of the grid; letters
/// that are awkward in a folder's name become '-'. "run" if nothing varies.
std::string run_name(const Variant& variant, const std::vector<Setting>& combination,
                     const std::map<std::string, std::string>& short_keys);

/// NAME_seed-N.
std::string with_seed(const std::string& name, int64_t seed);
/// The reverse, for the name of all seeds of a variant; a name without a seed stays.
std::string without_seed(const std::string& name);

}  // namespace tigon
