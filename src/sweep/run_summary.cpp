#include "sweep/run_summary.h"

#include <algorithm>
#include <deque>
#include <set>

#include "core/config_scalar.h"
#include "core/format.h"
#include "sweep/run_state.h"
#include "sweep/sweep_plan.h"
#include "train/config_keys.h"
#include "train/metrics.h"
#include "train/run_folder.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

std::string show_loss(double value) {
  return fmt::format("{:.4f}", value);
}
std::string show_share(double value) {
  return fmt::format("{:.1f} %", 100 * value);
}
std::string show_share_spread(double value) {
  return fmt::format("{:.1f}", 100 * value);
}
std::string show_ratio(double value) {
  return fmt::format("{:.4f}", value);
}
std::string show_kibibytes(double value) {
  return fmt::format("{:.2f} KiB", value / 1024);
}
std::string show_seconds(double value) {
  return fmt::format("{:.1f}", value);
}

/// The number at a path of keys, if there is one.
std::optional<double> number_at(const Json& json, const std::vector<std::string>& keys) {
  const Json* place = &json;
  for (const std::string& key : keys) {
    if (!place->is_object() || !place->contains(key)) return std::nullopt;
    place = &(*place)[key];
  }
  return place->is_number() ? std::optional(place->get<double>()) : std::nullopt;
}

/// Bytes of state where run.json was written without `state`: those at the longest length, if the
/// length before keeps as many.
std::optional<double> constant_state(const Json& run) {
  if (!run.contains("state_bytes") || !run["state_bytes"].is_array()) return std::nullopt;
  const Json& lengths = run["state_bytes"];
  if (lengths.size() < 2) return std::nullopt;
  const auto last = number_at(lengths[lengths.size() - 1], {"student"});
  return last == number_at(lengths[lengths.size() - 2], {"student"}) ? last : std::nullopt;
}

void read_numbers(const Json& run, RunSummary& summary) {
  const auto take = [&](const std::string& id, const std::optional<double>& value) {
    if (value) summary.numbers[id] = *value;
  };
  for (const char* id : {"tokens", "wall_seconds", "tokens_per_s", "peak_memory_bytes"}) {
    take(id, number_at(run, {id}));
  }
  take("trainable", number_at(run, {"parameters", "trainable"}));
  take("teacher", number_at(run, {"results", "base", "nats_per_token"}));
  for (const char* row :
       {"teacher", "window_only", "own_window", "converted", "trained", "branch_off"}) {
    take(row, number_at(run, {"results", row, "nats_per_token"}));
  }
  for (const char* id : {"recovered", "over_own_window"}) {
    take(id, number_at(run, {"results", "trained", id}));
  }
  take("weight_change", number_at(run, {"weight_change", "all"}));
  take("state_bytes", constant_state(run));
  take("state_bytes", number_at(run, {"state", "bytes"}));
  take("state_bytes_per_head", number_at(run, {"state", "bytes_per_layer_and_kv_head"}));
}

/// Counts sudden rises of a training loss.
class SpikeCounter {
 public:
  void add(double loss) {
    if (before_.size() == kSteps) {
      double sum = 0;
      for (const double earlier : before_) sum += earlier;
      if (loss > sum / static_cast<double>(kSteps) + kNats) ++count_;
      before_.pop_front();
    }
    before_.push_back(loss);
  }
  int64_t count() const { return count_; }

 private:
  static constexpr size_t kSteps = 20;
  static constexpr double kNats = 0.5;
  std::deque<double> before_;
  int64_t count_ = 0;
};

/// Validations against the tokens read by then, and spikes.
void read_losses(const fs::path& metrics_file, RunSummary& summary) {
  int64_t tokens = 0;
  SpikeCounter spikes;
  for (const Json& line : read_metrics(metrics_file)) {
    if (line.contains("tokens")) tokens = line["tokens"].get<int64_t>();
    if (line.contains("loss")) spikes.add(line["loss"].get<double>());
    if (line.contains("val_loss")) {
      summary.validations.push_back({tokens, line["val_loss"].get<double>()});
    }
  }
  if (tokens > 0) summary.numbers["spikes"] = static_cast<double>(spikes.count());
}

void read_run_json(const fs::path& file, RunSummary& summary) {
  const Json run = read_json_file(file);
  if (!run.is_object()) fail("{}: expected an object, found {}", file.string(), run.type_name());
  const std::string status = run.value("status", "");
  const bool is_over = status == "complete" || status == "failed";
  summary.status = is_over ? status : "unfinished";
  summary.reason = run.value("error", "");
  summary.steps = run.value("steps", int64_t{0});
  if (run.contains("planned")) summary.planned_steps = run["planned"].value("steps", int64_t{0});
  if (run.contains("plan")) summary.recipe = run["plan"].value("recipe", "");
  if (run.contains("hardware")) {
    const Json& hardware = run["hardware"];
    summary.device = hardware.value("gpu", hardware.value("processor", ""));
  }
  read_numbers(run, summary);
}

/// The run folders that a sweep's list names.
std::vector<fs::path> listed_runs(const fs::path& folder) {
  const fs::path file = folder / kSweepFile;
  const Json sweep = read_json_file(file);
  if (!sweep.is_object() || !sweep.contains("runs") || !sweep["runs"].is_array()) {
    fail("{}: expected a list of runs", file.string());
  }
  std::vector<fs::path> folders;
  for (const Json& run : sweep["runs"]) {
    const std::string name = run.is_object() ? run.value("name", "") : "";
    if (name.empty() || fs::path(name).filename() != name || name == "..") {
      fail("{}: expected the name of a folder beside it, found '{}'", file.string(), name);
    }
    folders.push_back(folder / name);
  }
  return folders;
}

bool is_run_folder(const fs::path& folder) {
  return fs::exists(folder / "config.yaml") || fs::exists(folder / "run.json");
}

std::vector<fs::path> run_folders(const fs::path& folder) {
  if (fs::exists(folder / kSweepFile)) return listed_runs(folder);
  if (is_run_folder(folder)) return {folder};
  std::vector<fs::path> found;
  if (fs::is_directory(folder)) {
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.is_directory() && is_run_folder(entry.path())) found.push_back(entry.path());
    }
  }
  if (found.empty()) {
    throw UsageError(
        fmt::format("{}: expected a run folder, a sweep folder or a folder of runs, "
                    "found none of them",
                    folder.string()));
  }
  std::ranges::sort(found);
  return found;
}

}  // namespace

const std::vector<ReportNumber>& report_numbers() {
  static const std::vector<ReportNumber> numbers = {
      {"tokens", "tokens", true, false, format_count, format_count},
      {"trainable", "trained parameters", true, false, format_count, format_count},
      {"teacher", "teacher", true, true, show_loss, show_loss},
      {"window_only", "window only", true, true, show_loss, show_loss},
      {"own_window", "own window", false, true, show_loss, show_loss},
      {"converted", "converted", true, true, show_loss, show_loss},
      {"trained", "trained", true, true, show_loss, show_loss},
      {"branch_off", "branch off", true, true, show_loss, show_loss},
      {"recovered", "recovered", true, true, show_share, show_share_spread},
      {"over_own_window", "over own window", false, true, show_share, show_share_spread},
      {"weight_change", "‖ΔW‖/‖W‖", true, true, show_ratio, show_ratio},
      {"spikes", "spikes", true, false, format_count, format_count},
      {"state_bytes", "state", true, false, format_bytes, format_bytes},
      {"state_bytes_per_head", "a layer and KV head", true, false, show_kibibytes, show_kibibytes},
      {"wall_seconds", "seconds", true, false, show_seconds, show_seconds},
      {"tokens_per_s", "tokens/s", true, false, format_count, format_count},
      {"peak_memory_bytes", "peak memory", true, false, format_bytes, format_bytes},
  };
  return numbers;
}

RunSummary read_run_summary(const fs::path& folder) {
  RunSummary summary;
  summary.folder = folder;
  summary.name = fs::absolute(folder / "run.json").parent_path().filename().string();
  summary.status = "waiting";
  if (fs::exists(folder / "config.yaml")) {
    const fs::path file = folder / "config.yaml";
    summary.settings = flatten_config(read_text_file(file), file.string());
    if (summary.settings.contains("seed")) {
      summary.seed = parse_integer(summary.settings.at("seed"));
    }
    summary.status = "unfinished";
  } else if (fs::exists(folder / kRunLog)) {
    summary.status = "failed";
    summary.reason = failure_reason(folder);
  }
  if (fs::exists(folder / "run.json")) read_run_json(folder / "run.json", summary);
  read_losses(folder / "metrics.jsonl", summary);
  return summary;
}

std::vector<RunSummary> read_runs(const std::vector<fs::path>& folders) {
  std::vector<RunSummary> runs;
  std::set<fs::path> seen;
  for (const fs::path& given : folders) {
    for (const fs::path& folder : run_folders(given)) {
      if (seen.insert(fs::weakly_canonical(folder)).second) {
        runs.push_back(read_run_summary(folder));
      }
    }
  }
  return runs;
}

}  // namespace tigon
