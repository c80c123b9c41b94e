// metrics.jsonl: a line a step, and a line a validation.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "io/json_file.h"

namespace tigon {

/// What one optimizer step measured.
struct StepMetrics {
  int64_t step = 0;    // counted from 1
  int64_t tokens = 0;  // read since the start of the run, this step included
  float loss = 0;      // nats a token, mean over the step's predictions
  // Of the targets alone, where the loss has other parts.
  std::optional<float> cross_entropy = std::nullopt;
  double lr = 0;
  float grad_norm = 0;      // before clipping
  double tokens_per_s = 0;  // since the step before
  /// Bytes: on a GPU the most that was allocated so far; on the CPU what the run keeps between
  /// steps (weights, gradients, optimizer), which is the same in a resumed run.
  int64_t memory = 0;
};

/// Appends whole lines; a killed run leaves at most one broken line at the end.
class MetricsFile {
 public:
  /// Opens PATH, keeping only the lines up to and including `last_step` (0: none); the cut is
  /// atomic.
  MetricsFile(const std::filesystem::path& path, int64_t last_step);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;

  void write(const StepMetrics& metrics);
  void write_validation(int64_t step, double loss);
  /// To disk: called before a checkpoint is committed, so that no checkpoint is ahead of its lines.
  void sync();

 private:
  void append(const Json& line);
  std::filesystem::path path_;
  int descriptor_ = -1;
};

/// Every complete line of a metrics file; none if there is no file.
std::vector<Json> read_metrics(const std::filesystem::path& path);

}  // namespace tigon
