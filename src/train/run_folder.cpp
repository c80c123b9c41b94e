#include "train/run_folder.h"

#include <fmt/ranges.h>

#include <array>
#include <map>

#include "io/atomic_file.h"
#include "train/config_keys.h"
#include "train/report_html.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 6> kMayChange = {
    "train.checkpoint_every", "eval", "export", "threads", "run.folder", "data.cache"};

/// Whether a key says nothing about the steps already done.
bool may_change(const std::string& key, bool is_cosine) {
  if (key == "train.steps" || key == "train.tokens" || key == "train.epochs") return !is_cosine;
  for (const std::string_view allowed : kMayChange) {
    if (key == allowed || key.starts_with(std::string(allowed) + ".")) return true;
  }
  return false;
}

/// Whether a folder holds nothing that a run has written.
bool is_unused(const fs::path& folder) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename() != kRunLog) return false;
  }
  return true;
}

}  // namespace

std::vector<std::string> changes_that_forbid_resuming(const std::string& old_yaml,
                                                      const std::string& new_yaml) {
  const auto before = flatten_config(old_yaml), after = flatten_config(new_yaml);
  std::map<std::string, std::pair<std::string, std::string>> both;
  for (const auto& [key, value] : before) both[key].first = value;
  for (const auto& [key, value] : after) both[key].second = value;
  const auto kind = after.find("train.schedule.kind");
  const bool is_cosine = kind != after.end() && kind->second == "cosine";
  std::vector<std::string> changes;
  for (const auto& [key, values] : both) {
    if (values.first == values.second || may_change(key, is_cosine)) continue;
    const auto shown = [](const std::string& value) { return value.empty() ? "absent" : value; };
    changes.push_back(fmt::format("{}: {} → {}", key, shown(values.first), shown(values.second)));
  }
  return changes;
}

RunFolder::RunFolder(const RunConfig& config, bool resume)
    : path_(config.run_folder), resolved_yaml_(config.resolved_yaml) {
  if (fs::exists(path_) && !fs::is_directory(path_)) {
    throw UsageError(fmt::format("run.folder: {} is not a folder", path_.string()));
  }
  if (!fs::exists(path_) || is_unused(path_)) return;
  if (!resume) {
    throw UsageError(
        fmt::format("run.folder: {} is not empty; --resume continues it, another "
                    "run.folder starts a new run",
                    path_.string()));
  }
  const fs::path config_file = path_ / "config.yaml";
  if (!fs::exists(config_file)) {
    throw UsageError(fmt::format("run.folder: {} holds no run (expected {})", path_.string(),
                                 config_file.string()));
  }
  const std::string before = read_text_file(config_file);
  const auto changes = changes_that_forbid_resuming(before, resolved_yaml_);
  if (!changes.empty()) {
    throw UsageError(fmt::format("{} was started with another config:\n  {}", path_.string(),
                                 fmt::join(changes, "\n  ")));
  }
  const fs::path run_file = path_ / "run.json";
  is_complete_ = before == resolved_yaml_ && fs::exists(run_file) &&
                 read_json_file(run_file).value("status", "") == "complete";
}

void RunFolder::start() {
  std::error_code code;
  fs::create_directories(path_, code);
  if (code) fail("run.folder: cannot create {}: {}", path_.string(), code.message());
  write_file_atomically(path_ / "config.yaml", resolved_yaml_);
}

void RunFolder::write(const Json& run) const {
  write_json_file(path_ / "run.json", run);
  write_file_atomically(path_ / "report.html", report_html(path_));
}

}  // namespace tigon
