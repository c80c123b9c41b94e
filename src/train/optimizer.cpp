#include "train/optimizer.h"

#include <ATen/ATen.h>

namespace tigon {

AdamW::AdamW(const std::vector<Parameter>& parameters, const OptimizerOptions& options)
    : options_(options) {
  TORCH_INTERNAL_ASSERT(!parameters.empty());
  Group trained{.lr_ratio = 1, .weight_decay = options.weight_decay};
  Group added{.lr_ratio = options.new_lr / options.lr, .weight_decay = options.new_weight_decay};
  for (const Parameter& parameter : parameters) {
    TORCH_INTERNAL_ASSERT(parameter.tensor.scalar_type() == at::kFloat, parameter.name);
    Group& group = parameter.is_new ? added : trained;
    group.parameters.push_back(parameter);
    group.tensors.push_back(parameter.tensor.detach());
    group.exp_avgs.push_back(at::zeros_like(group.tensors.back()));
    group.exp_avg_sqs.push_back(at::zeros_like(group.tensors.back()));
  }
  step_ = at::zeros({}, parameters[0].tensor.options().requires_grad(false));
  for (Group* const group : {&trained, &added}) {
    if (group->parameters.empty()) continue;
    // The GPU's fused update reads a float32, the CPU's a number of any kind.
    const at::ScalarType type = step_.device().is_cpu() ? at::kDouble : at::kFloat;
    group->rate = at::full({}, options.lr * group->lr_ratio, step_.options().dtype(type));
    groups_.push_back(std::move(*group));
  }
}

void AdamW::set_rate(double lr) {
  for (Group& group : groups_) group.rate.fill_(lr * group.lr_ratio);
}

at::Tensor AdamW::step() {
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  std::vector<std::vector<at::Tensor>> gradients_of(groups_.size());
  for (size_t i = 0; i < groups_.size(); ++i) {
    for (const Parameter& parameter : groups_[i].parameters) {
      gradients_of[i].push_back(parameter.tensor.grad());
      gradients.push_back(parameter.tensor.grad());
    }
  }
  const at::Tensor norm = at::stack(at::_foreach_norm(gradients, 2)).norm();
  if (options_.clip_norm > 0) {
    at::_foreach_mul_(gradients, (options_.clip_norm / (norm + 1e-6)).clamp_max(1.0));
  }
  step_.add_(1);
  for (size_t i = 0; i < groups_.size(); ++i) {
    Group& group = groups_[i];
    const std::vector<at::Tensor> steps(group.tensors.size(), step_);
    at::_fused_adamw_(group.tensors, gradients_of[i], group.exp_avgs, group.exp_avg_sqs, {}, steps,
                      group.rate, options_.beta1, options_.beta2, group.weight_decay, options_.eps,
                      /*amsgrad=*/false, /*maximize=*/false);
  }
  return norm;
}

void AdamW::zero_grad() {
  for (const Group& group : groups_) {
    for (const Parameter& parameter : group.parameters) parameter.tensor.mutable_grad().reset();
  }
}

std::vector<Parameter> AdamW::moments() const {
  std::vector<Parameter> all;
  for (const Group& group : groups_) {
    for (size_t i = 0; i < group.parameters.size(); ++i) {
      all.push_back({group.parameters[i].name + ".exp_avg", group.exp_avgs[i]});
      all.push_back({group.parameters[i].name + ".exp_avg_sq", group.exp_avg_sqs[i]});
    }
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
