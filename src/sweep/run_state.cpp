#include "sweep/run_state.h"

#include <fmt/ranges.h>

#include <array>
#include <fstream>

#include "train/config_keys.h"
#include "train/run_folder.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

// Keys that say where a run happens, not what it is.
constexpr std::array<std::string_view, 5> kPlaceKeys = {"device", "threads", "run.folder",
                                                        "data.cache", "eval.known"};

bool is_same_run(const std::string& before, const std::string& now) {
  auto old_keys = flatten_config(before), new_keys = flatten_config(now);
  for (const std::string_view key : kPlaceKeys) {
    old_keys.erase(std::string(key));
    new_keys.erase(std::string(key));
  }
  return old_keys == new_keys;
}

/// The last `bytes` of a file; empty if there is none.
std::string tail(const fs::path& path, std::streamoff bytes) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return {};
  const std::streamoff size = file.tellg();
  file.seekg(std::max<std::streamoff>(0, size - bytes));
  return {std::istreambuf_iterator<char>(file), {}};
}

/// run.json, or null where there is none. It is replaced whole, so a read never sees a part.
Json read_run(const fs::path& folder) {
  const fs::path file = folder / "run.json";
  return fs::exists(file) ? read_json_file(file) : Json();
}

/// The last whole line with a training loss.
Json last_step(const fs::path& folder) {
  constexpr std::streamoff kEnough = 4096;
  const std::string text = tail(folder / "metrics.jsonl", kEnough);
  for (size_t end = text.rfind('\n'); end != std::string::npos && end > 0;) {
    const size_t before = text.rfind('\n', end - 1);
    const size_t start = before == std::string::npos ? 0 : before + 1;
    const Json line = Json::parse(text.substr(start, end - start), nullptr, false);
    if (line.is_object() && line.contains("loss")) return line;
    end = before;
  }
  return {};
}

}  // namespace

RunState read_run_state(const RunConfig& config) {
  RunState state;
  const fs::path folder = config.run_folder;
  const fs::path config_file = folder / "config.yaml";
  if (!fs::exists(config_file)) return state;
  const std::string before = read_text_file(config_file);
  const auto changes = changes_that_forbid_resuming(before, config.resolved_yaml);
  if (!changes.empty()) {
    throw UsageError(fmt::format(
        "{} was started with another config (another `folder` starts the sweep anew):\n  {}",
        folder.string(), fmt::join(changes, "\n  ")));
  }
  state.stage = RunStage::kInterrupted;
  const Json run = read_run(folder);
  const std::string status = run.is_object() ? run.value("status", "") : "";
  if (status == "complete" && is_same_run(before, config.resolved_yaml)) {
    state.stage = RunStage::kDone;
  } else if (status == "failed") {
    state.stage = RunStage::kFailed;
    state.reason = run.value("error", "no reason given");
  }
  if (!run.is_null()) read_run_progress(folder, state);
  return state;
}

void read_run_progress(const fs::path& folder, RunState& state) {
  const Json line = last_step(folder);
  if (line.is_object()) {
    state.step = line.value("step", int64_t{0});
    state.tokens_per_s = line.value("tokens_per_s", 0.0);
    state.loss = line.value("loss", 0.0);
  }
  const Json run = read_run(folder);
  if (!run.is_object()) return;
  if (run.contains("planned")) state.planned_steps = run["planned"].value("steps", int64_t{0});
  state.seconds = run.value("wall_seconds", 0.0);
  if (!run.contains("results") || !run["results"].contains("trained")) return;
  const Json& trained = run["results"]["trained"];
  state.trained_loss = trained.value("nats_per_token", 0.0);
  state.has_results = true;
  state.has_recovered = trained.contains("recovered") && trained["recovered"].is_number();
  if (state.has_recovered) state.recovered = trained["recovered"].get<double>();
}

std::string failure_reason(const fs::path& folder) {
  const Json run = read_run(folder);
  if (run.is_object() && run.value("status", "") == "failed") {
    return run.value("error", "no reason given");
  }
  constexpr std::streamoff kEnough = 16384;
  const std::string text = tail(folder / kRunLog, kEnough);
  const size_t place = text.rfind("error: ");
  if (place == std::string::npos) return "it said no reason; see " + (folder / kRunLog).string();
  const size_t start = place + std::string_view("error: ").size();
  return text.substr(start, text.find('\n', start) - start);
}

}  // namespace tigon
