#include "sweep/sweep_plan.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>
#include <thread>

#include "core/format.h"
#include "core/table.h"
#include "sweep/run_names.h"

namespace tigon {
namespace {

constexpr size_t kLongestName = 200;  // file systems take 255 bytes

/// Every combination of the grid's values, the last key varying fastest.
std::vector<std::vector<Setting>> combinations(const std::vector<Variation>& grid) {
  std::vector<std::vector<Setting>> all = {{}};
  for (const Variation& variation : grid) {
    std::vector<std::vector<Setting>> longer;
    for (const auto& settings : all) {
      for (const std::string& value : variation.values) {
        longer.push_back(settings);
        longer.back().push_back({variation.key, value});
      }
    }
    all = std::move(longer);
  }
  return all;
}

/// The runs without their configs.
std::vector<SweepRun> expand(const SweepConfig& config) {
  const std::vector<Variant> variants =
      config.list.empty() ? std::vector<Variant>{{}} : config.list;
  const std::map<std::string, std::string> short_keys = shortest_keys(varied_keys(config));
  std::vector<SweepRun> runs;
  for (const Variant& variant : variants) {
    for (const std::vector<Setting>& combination : combinations(config.grid)) {
      SweepRun run;
      run.varied = variant.settings;
      run.varied.insert(run.varied.end(), combination.begin(), combination.end());
      run.name = run_name(variant, combination, short_keys);
      if (config.seeds.empty()) runs.push_back(run);
      for (const int64_t seed : config.seeds) {
        runs.push_back(run);
        runs.back().seed = seed;
        runs.back().name = with_seed(run.name, seed);
      }
    }
  }
  return runs;
}

/// Runs that share the CPU share its cores.
std::string threads_override(const SweepConfig& config) {
  const int64_t cores = std::max(1u, std::thread::hardware_concurrency());
  return fmt::format("threads={}", std::max<int64_t>(1, cores / config.parallel));
}

std::vector<std::string> overrides_of(const SweepRun& run, const SweepConfig& config) {
  std::vector<std::string> overrides;
  if (config.is_on_cpu() && config.parallel > 1) overrides.push_back(threads_override(config));
  for (const Setting& setting : config.set) overrides.push_back(setting.as_override());
  overrides.insert(overrides.end(), config.overrides.begin(), config.overrides.end());
  for (const Setting& setting : run.varied) overrides.push_back(setting.as_override());
  if (run.seed) overrides.push_back(fmt::format("seed={}", *run.seed));
  // A child sees only its own GPU (child_run.h), so that the config does not depend on which it is.
  overrides.push_back(config.is_on_cpu() ? "device=cpu" : "device=cuda");
  overrides.push_back("run.folder=" + (config.folder / run.name).string());
  overrides.push_back("eval.known=" + (config.folder / "known_losses").string());
  return overrides;
}

/// "a", "a, b", "a, b and 10 more".
std::string some_names(const std::vector<std::string>& names) {
  constexpr size_t kShown = 4;
  if (names.size() <= kShown) return fmt::format("{}", fmt::join(names, ", "));
  return fmt::format("{}, {} and {} more", names[0], names[1], names.size() - 2);
}

/// Reads every run's config; the same problem of several runs is said once.
void read_configs(SweepPlan& plan) {
  std::vector<std::pair<std::string, std::vector<std::string>>> problems;
  size_t num_bad = 0;
  for (SweepRun& run : plan.runs) {
    run.overrides = overrides_of(run, plan.config);
    try {
      run.config = read_run_config(plan.config.base, run.overrides);
    } catch (const ConfigError& error) {
      ++num_bad;
      const std::string message = error.what();
      auto known = std::ranges::find(problems, message, &decltype(problems)::value_type::first);
      if (known == problems.end()) known = problems.insert(known, {message, {}});
      known->second.push_back(run.name);
    }
  }
  if (problems.empty()) return;
  std::string text = fmt::format("{}: {} of {} runs cannot be read", plan.config.file.string(),
                                 num_bad, plan.runs.size());
  for (const auto& [message, names] : problems) {
    text += fmt::format("\nrun {}: {}", some_names(names), message);
  }
  throw ConfigError(text);
}

void check_names(const SweepPlan& plan) {
  std::set<std::string> seen;
  for (const SweepRun& run : plan.runs) {
    if (!seen.insert(run.name).second) {
      throw ConfigError(
          fmt::format("{}: two runs would be called {}: give the entries of `list` "
                      "names, and values that differ in letters or digits",
                      plan.config.file.string(), run.name));
    }
    if (run.name.size() > kLongestName) {
      throw ConfigError(
          fmt::format("{}: expected run names of at most {} letters, found {}: give the entries of "
                      "`list` names",
                      plan.config.file.string(), kLongestName, run.name));
    }
  }
}

}  // namespace

SweepPlan plan_sweep(const SweepConfig& config) {
  SweepPlan plan{config, expand(config)};
  check_names(plan);
  read_configs(plan);
  return plan;
}

Json sweep_to_json(const SweepPlan& plan) {
  Json runs = Json::array();
  for (const SweepRun& run : plan.runs) {
    Json settings = Json::object();
    for (const Setting& setting : run.varied) settings[setting.key] = setting.value;
    runs.push_back({{"name", run.name},
                    {"settings", std::move(settings)},
                    {"seed", run.seed ? Json(*run.seed) : Json()}});
  }
  return {{"sweep", plan.config.file.string()},
          {"base", plan.config.base.string()},
          {"runs", std::move(runs)}};
}

std::string plan_to_text(const SweepPlan& plan) {
  std::vector<std::vector<std::string>> rows;
  double tokens = 0;
  for (const SweepRun& run : plan.runs) {
    std::vector<std::string> settings;
    for (const Setting& setting : run.varied) settings.push_back(setting.as_override());
    const bool is_known = run.config.is_total_known();
    const double own =
        is_known ? static_cast<double>(run.config.total_steps() * run.config.tokens_per_step()) : 0;
    tokens += own;
    rows.push_back({run.name, is_known ? format_count(own) : "by epochs",
                    fmt::format("{}", fmt::join(settings, " "))});
  }
  std::string text = format_table({"run", "tokens", "settings"}, rows);
  return text + fmt::format("{} runs of {} in {}, {} at a time on {}; {} tokens\n",
                            plan.runs.size(), plan.config.base.string(),
                            plan.config.folder.string(),
                            plan.config.parallel * static_cast<int64_t>(plan.config.devices.size()),
                            fmt::join(plan.config.devices, ", "), format_count(tokens));
}

}  // namespace tigon
