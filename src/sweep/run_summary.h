// What a report says about one run, read from its folder.
#pragma once
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "io/json_file.h"

namespace tigon {

/// A number that reports show of each run that has it.
struct ReportNumber {
  const char* id;     // in CSV and JSON
  const char* title;  // in tables
  bool is_in_tables;  // false: only in CSV and JSON
  bool is_measured;   // differs between seeds: shown with its spread
  std::string (*show)(double value);
  std::string (*show_spread)(double value);
};

/// In the order of the tables: tokens, trainable (parameters), teacher, window_only, own_window,
/// converted, trained, branch_off (losses in nats a token), recovered, over_own_window (shares),
/// weight_change, spikes (steps whose training loss lies more than half a nat above the mean of the
/// twenty before), state_bytes (a sequence), state_bytes_per_head (a layer and KV head),
/// wall_seconds, tokens_per_s, peak_memory_bytes.
const std::vector<ReportNumber>& report_numbers();

struct CurvePoint {
  int64_t tokens = 0;
  double loss = 0;
};

struct RunSummary {
  std::string name;  // of its folder
  std::filesystem::path folder;
  std::string status;  // complete | failed | unfinished | waiting
  std::string reason;  // of a failure
  int64_t steps = 0, planned_steps = 0;
  std::optional<int64_t> seed;
  std::string recipe;                           // empty: not known yet
  std::map<std::string, std::string> settings;  // its whole config, by key
  std::map<std::string, double> numbers;        // by ReportNumber::id
  std::vector<CurvePoint> validations;
  std::string device;  // GPU or processor

  bool is_complete() const { return status == "complete"; }
};

/// Reads a run folder. A folder without a config is a run that waits, or failed before it began.
/// Throws Error for broken files.
RunSummary read_run_summary(const std::filesystem::path& folder);

/// The runs of run folders, sweep folders (in the sweep's order, those that wait included) and
/// folders of run folders. Throws UsageError for a folder that is none of them. A run given twice
/// counts once.
std::vector<RunSummary> read_runs(const std::vector<std::filesystem::path>& folders);

}  // namespace tigon
