// One optimizer step: micro-batches forward and backward, then the update.
#pragma once
#include <ATen/core/Generator.h>

#include "data/loader.h"
#include "eval/row_batch.h"
#include "train/optimizer.h"
#include "train/recorded_step.h"
#include "train/run_parts.h"

namespace tigon {

class StepRunner {
 public:
  StepRunner(const RunConfig& config, RunParts& parts);
  StepRunner(const StepRunner&) = delete;  // recorded steps refer to it
  StepRunner& operator=(const StepRunner&) = delete;

  /// Forward, backward and update on the next rows; → {loss, gradient norm, cross-entropy} on the
  /// device; the last without its weight, and the loss itself where it has no other part. Losses
  /// are means over all predictions of the step, however they fall into micro-batches. Nothing
  /// waits for the device. The first call also checks that every trainable parameter gets a
  /// gradient.
  std::vector<at::Tensor> step(double lr);

  /// Optimizer and dropout state, for optimizer.safetensors.
  void save(const std::filesystem::path& file) const;
  /// Restores what save() wrote, and the rows' position.
  void restore(const std::filesystem::path& file, const Json& data_position);
  Json data_position() const { return loader_.position(); }
  int64_t optimizer_bytes() const { return optimizer_.bytes(); }

 private:
  /// A step on micro-batches on the device, at the optimizer's rate.
  std::vector<at::Tensor> forward_backward_update(const std::vector<RowBatch>& micros);
  /// The teacher's final hidden states, where the loss asks for them.
  std::optional<at::Tensor> teacher_hidden(const RowBatch& micro) const;
  /// Adds weight · gradient of the micro-batch's mean loss; → weight · {loss, its cross-entropy}.
  at::Tensor backward(const RowBatch& micro, double weight);

  const RunConfig& config_;
  RunParts& parts_;
  AdamW optimizer_;
  Loader loader_;
  at::Generator generator_;  // of dropout, on the run's device
  bool has_checked_gradients_ = false;
  RecordedStep recorded_;
};

}  // namespace tigon
