#include "sweep/run_report.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "core/config_scalar.h"
#include "core/error.h"
#include "core/format.h"
#include "sweep/run_names.h"

namespace tigon {
namespace {

// Keys that say where a run happens or what is written of it, not what it is; and the seed.
constexpr std::array<std::string_view, 10> kSilentKeys = {
    "seed",       "data.seed",  "device",    "threads",      "run.folder",
    "data.cache", "eval.known", "export.to", "export.dtype", "train.checkpoint_every"};

bool is_silent(const std::string& key) {
  return std::ranges::find(kSilentKeys, key) != kSilentKeys.end();
}

/// The keys that have several values; one that only some runs have goes with another key that says
/// so (a recipe, a schedule).
std::vector<std::string> differing_keys(const std::vector<RunSummary>& runs) {
  std::map<std::string, std::set<std::string>> values;
  for (const RunSummary& run : runs) {
    for (const auto& [key, value] : run.settings) values[key].insert(value);
  }
  std::vector<std::string> keys;
  for (const auto& [key, found] : values) {
    if (found.size() > 1 && !is_silent(key)) keys.push_back(key);
  }
  return keys;
}

std::map<std::string, std::string> settings_of(const RunSummary& run,
                                               const std::vector<std::string>& keys) {
  std::map<std::string, std::string> settings;
  for (const std::string& key : keys) {
    const auto found = run.settings.find(key);
    if (found != run.settings.end()) settings.insert(*found);
  }
  return settings;
}

std::vector<RunGroup> make_groups(const std::vector<RunSummary>& runs,
                                  const std::vector<std::string>& differing) {
  std::vector<RunGroup> groups;
  for (size_t i = 0; i < runs.size(); ++i) {
    if (!runs[i].is_complete()) continue;
    const auto settings = settings_of(runs[i], differing);
    // A folder without its config could hold anything: such a run is a group of its own.
    const bool has_config = !runs[i].settings.empty();
    auto group = std::ranges::find_if(groups, [&](const RunGroup& other) {
      return has_config && !runs[other.runs.front()].settings.empty() && other.settings == settings;
    });
    if (group == groups.end()) {
      group = groups.insert(groups.end(), {without_seed(runs[i].name), {}, settings, {}});
    }
    group->runs.push_back(i);
  }
  for (RunGroup& group : groups) {
    for (const ReportNumber& number : report_numbers()) {
      std::vector<double> values;
      for (const size_t run : group.runs) {
        const auto found = runs[run].numbers.find(number.id);
        if (found != runs[run].numbers.end()) values.push_back(found->second);
      }
      if (!values.empty()) group.numbers[number.id] = spread_of(values);
    }
  }
  return groups;
}

}  // namespace

Spread spread_of(const std::vector<double>& values) {
  if (values.empty()) fail("expected at least one value, found none");
  Spread spread{.count = static_cast<int64_t>(values.size())};
  for (const double value : values) spread.mean += value / static_cast<double>(spread.count);
  if (spread.count == 1) return spread;
  if (std::ranges::count(values, values[0]) == spread.count) return {values[0], 0, spread.count};
  double squares = 0;
  for (const double value : values) squares += (value - spread.mean) * (value - spread.mean);
  spread.deviation = std::sqrt(squares / static_cast<double>(spread.count - 1));
  return spread;
}

RunReport make_report(std::vector<RunSummary> runs) {
  RunReport report;
  report.runs = std::move(runs);
  report.differing = differing_keys(report.runs);
  report.groups = make_groups(report.runs, report.differing);
  return report;
}

std::string show_setting(const std::string& value) {
  constexpr int64_t kLarge = 100'000;
  const std::optional<int64_t> whole = parse_integer(value);
  return whole && *whole >= kLarge ? format_count(static_cast<double>(*whole)) : value;
}

Json report_to_json(const RunReport& report) {
  Json runs = Json::array(), groups = Json::array();
  for (const RunSummary& run : report.runs) {
    runs.push_back({{"name", run.name},
                    {"folder", run.folder.string()},
                    {"status", run.status},
                    {"reason", run.reason},
                    {"steps", run.steps},
                    {"planned_steps", run.planned_steps},
                    {"seed", run.seed ? Json(*run.seed) : Json()},
                    {"recipe", run.recipe},
                    {"device", run.device},
                    {"settings", settings_of(run, report.differing)},
                    {"numbers", run.numbers}});
  }
  for (const RunGroup& group : report.groups) {
    Json names = Json::array(), numbers = Json::object();
    for (const size_t run : group.runs) names.push_back(report.runs[run].name);
    for (const auto& [id, spread] : group.numbers) {
      numbers[id] = {
          {"mean", spread.mean}, {"deviation", spread.deviation}, {"count", spread.count}};
    }
    groups.push_back({{"name", group.name},
                      {"runs", std::move(names)},
                      {"settings", group.settings},
                      {"numbers", std::move(numbers)}});
  }
  return {
      {"differing", report.differing}, {"runs", std::move(runs)}, {"groups", std::move(groups)}};
}

}  // namespace tigon
