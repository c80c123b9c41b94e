#include "train/optimizer.h"

#include <ATen/ATen.h>

namespace tigon {

AdamW::AdamW(const std::vector<Parameter>& parameters, const OptimizerOptions& options)
    : parameters_(parameters), options_(options) {
  TORCH_INTERNAL_ASSERT(!parameters.empty());
  for (const Parameter& parameter : parameters_) {
    TORCH_INTERNAL_ASSERT(parameter.tensor.scalar_type() == at::kFloat, parameter.name);
    tensors_.push_back(parameter.tensor.detach());
    exp_avgs_.push_back(at::zeros_like(tensors_.back()));
    exp_avg_sqs_.push_back(at::zeros_like(tensors_.back()));
  }
  step_ = at::zeros({}, tensors_[0].options());
  // The GPU's fused update reads a float32, the CPU's a number of any kind.
  const at::Device device = step_.device();
  rate_ =
      at::full({}, options.lr, step_.options().dtype(device.is_cpu() ? at::kDouble : at::kFloat));
}

void AdamW::set_rate(double lr) {
  rate_.fill_(lr);
}

at::Tensor AdamW::step() {
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (const Parameter& parameter : parameters_) gradients.push_back(parameter.tensor.grad());
  const at::Tensor norm = at::stack(at::_foreach_norm(gradients, 2)).norm();
  if (options_.clip_norm > 0) {
    at::_foreach_mul_(gradients, (options_.clip_norm / (norm + 1e-6)).clamp_max(1.0));
  }
  step_.add_(1);
  const std::vector<at::Tensor> steps(tensors_.size(), step_);
  at::_fused_adamw_(tensors_, gradients, exp_avgs_, exp_avg_sqs_, {}, steps, rate_, options_.beta1,
                    options_.beta2, options_.weight_decay, options_.eps, /*amsgrad=*/false,
                    /*maximize=*/false);
  return norm;
}

void AdamW::zero_grad() {
  for (const Parameter& parameter : parameters_) parameter.tensor.mutable_grad().reset();
}

std::vector<Parameter> AdamW::moments() const {
  std::vector<Parameter> all;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    all.push_back({parameters_[i].name + ".exp_avg", exp_avgs_[i]});
    all.push_back({parameters_[i].name + ".exp_avg_sq", exp_avg_sqs_[i]});
  }
  all.push_back({"step", step_});
  return all;
}

std::vector<std::pair<std::string, at::Tensor>> AdamW::state() const {
  std::vector<std::pair<std::string, at::Tensor>> named;
  for (const Parameter& moment : moments()) named.emplace_back(moment.name, moment.tensor);
  return named;
}

void AdamW::restore(const std::filesystem::path& file) {
  restore_parameters(file, "", moments());
}

int64_t AdamW::bytes() const {
  int64_t bytes = 0;
  for (const Parameter& moment : moments()) bytes += static_cast<int64_t>(moment.tensor.nbytes());
  return bytes;
}

}  // namespace tigon
