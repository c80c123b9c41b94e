// Several runs beside each other: what differs between them, and seeds of one variant as one.
#pragma once
#include "sweep/run_summary.h"

namespace tigon {

/// Mean over seeds, and their standard deviation (with n − 1; 0 for one).
struct Spread {
  double mean = 0, deviation = 0;
  int64_t count = 0;
};
/// Throws Error for no values.
Spread spread_of(const std::vector<double>& values);

/// The complete runs whose configs differ in nothing but the seed.
struct RunGroup {
  std::string name;                             // the first run's name without the seed
  std::vector<size_t> runs;                     // indices into RunReport::runs
  std::map<std::string, std::string> settings;  // of the differing keys; absent ones are left out
  std::map<std::string, Spread> numbers;        // by ReportNumber::id
};

struct RunReport {
  std::vector<RunSummary> runs;
  std::vector<std::string> differing;  // keys with several values, in the order of configs
  std::vector<RunGroup> groups;        // in the order of their first runs
};

RunReport make_report(std::vector<RunSummary> runs);

/// A markdown table of the groups, then a list of the runs that are not complete.
std::string report_to_markdown(const RunReport& report);
/// A line a run, numbers in full; the first line names the columns.
std::string report_to_csv(const RunReport& report);
/// {"differing", "runs": [{"name", "folder", "status", …, "settings", "numbers"}], "groups":
/// [{"name", "runs", "settings", "numbers": {ID: {"mean", "deviation", "count"}}}]}.
Json report_to_json(const RunReport& report);

/// The value of a setting as tables show it: large whole numbers as "20.0 M".
std::string show_setting(const std::string& value);

}  // namespace tigon
