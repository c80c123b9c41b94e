// A run small enough for a test: a corpus, a tokenizer, a tiny base model and the config that joins
// them.
#pragma once
#include <string>
#include <vector>

#include "support/temporary_folder.h"
#include "support/tiny_model.h"
#include "support/tiny_tokenizer.h"
#include "train/train.h"

namespace tigon::testing {

class TinyRun {
 public:
  TinyRun();

  const TemporaryFolder& folder() const { return folder_; }
  std::filesystem::path config_file() const { return folder_ / "run.yaml"; }
  /// The run folder of the config (another one through run.folder=…).
  std::filesystem::path run_folder() const { return folder_ / "run"; }
  /// run.folder=… for a second run.
  std::string in_folder(const std::string& name) const {
    return "run.folder=" + (folder_ / name).string();
  }
  /// A pretrained teacher, liger-gla, LoRA with dropout on two targets, 12 steps of two
  /// micro-batches, a validation every 4 steps.
  RunConfig config(const std::vector<std::string>& overrides = {}) const;
  /// The same corpus for a randomly initialised model, all parameters trained.
  static std::vector<std::string> random_model(const TinyRun& run);

 private:
  TemporaryFolder folder_;
};

/// The losses of a folder's metrics.jsonl, one a step.
std::vector<double> step_losses(const std::filesystem::path& folder);

/// metrics.jsonl line by line, the field that measures time removed.
std::vector<std::string> lines_without_timing(const std::filesystem::path& metrics_file);

}  // namespace tigon::testing
