// AdamW over all trained tensors at once, in float32.
#pragma once
#include <vector>

#include "train/parameters.h"

namespace tigon {

/// m ← β1 m + (1−β1) g;  v ← β2 v + (1−β2) g²;
/// θ ← θ (1 − lr·decay) − lr · m/(1−β1^t) / (√(v/(1−β2^t)) + eps),
/// as torch.optim.AdamW.
/// The parameters that a recipe adds have a rate and a decay of their own; one fused call updates
/// each of the two groups, on the CPU and on a GPU.
class AdamW {
 public:
  AdamW(const std::vector<Parameter>& parameters, const OptimizerOptions& options);

  /// The rate of the steps that follow; new parameters get lr · new_lr / options.lr.
  void set_rate(double lr);
  /// Clips the gradients to clip_norm over all tensors (0: not) and updates the parameters; returns
  /// the norm before clipping, a scalar on the parameters' device. Nothing waits for the device.
  at::Tensor step();
  /// Frees the gradients.
  void zero_grad();

  /// Moments and step count under "NAME.exp_avg", "NAME.exp_avg_sq" and "step".
  std::vector<std::pair<std::string, at::Tensor>> state() const;
  /// Reads what state() gave from a safetensors file.
  void restore(const std::filesystem::path& file);

  /// Bytes of the moments.
  int64_t bytes() const;

 private:
  struct Group {
    double lr_ratio = 1, weight_decay = 0;  // lr_ratio: its rate over that of set_rate()
    std::vector<Parameter> parameters = {};
    std::vector<at::Tensor> tensors = {}, exp_avgs = {}, exp_avg_sqs = {};
    at::Tensor rate = {};  // scalar on the parameters' device, where recorded steps find it
  };

  std::vector<Parameter> moments() const;
  OptimizerOptions options_;
  std::vector<Group> groups_;
  at::Tensor step_;  // one float32 scalar shared by all tensors
};

}  // namespace tigon
