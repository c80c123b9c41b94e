// RUN/: config.yaml, run.json, metrics.jsonl, events, checkpoints/ and report.html (design.md §3).
#pragma once
#include <filesystem>

#include "io/json_file.h"
#include "train/config.h"

namespace tigon {

/// The output of a run that another program started (tigon sweep), in its run folder.
inline constexpr const char* kRunLog = "train.log";

class RunFolder {
 public:
  /// Opens the folder of a run. A new run needs a folder that is absent or empty (train.log apart);
  /// `resume` accepts
  /// one whose config.yaml says the same as `config`, except for keys that say nothing about the
  /// steps already done (eval, export, threads, run.folder, data.cache, train.checkpoint_every, and
  /// unless the schedule is a cosine train.steps and train.tokens). Otherwise UsageError. Nothing
  /// is written.
  RunFolder(const RunConfig& config, bool resume);

  const std::filesystem::path& path() const { return path_; }
  /// Whether this very config has run to its end here.
  bool is_complete() const { return is_complete_; }

  /// Creates the folder and writes config.yaml.
  void start();
  /// Writes run.json and, from it and metrics.jsonl, report.html.
  void write(const Json& run) const;

 private:
  std::filesystem::path path_;
  std::string resolved_yaml_;
  bool is_complete_ = false;
};

/// Lists the keys in which two resolved configs differ, as "key: old → new"; keys that may change
/// when a run is resumed are left out.
std::vector<std::string> changes_that_forbid_resuming(const std::string& old_yaml,
                                                      const std::string& new_yaml);

}  // namespace tigon
