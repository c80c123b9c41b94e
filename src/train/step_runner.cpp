#include "train/step_runner.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>

#include "core/random.h"
#include "model/tensor_io.h"
#include "ops/linear_cross_entropy/linear_cross_entropy.h"

namespace tigon {
namespace {

constexpr const char* kGenerator = "generator";

/// Dropout draws new numbers every step, and the gradient of an embedding is sized by its tokens.
bool may_record(const RunConfig& config) {
  return config.lora.dropout == 0 && config.train.trainable != "all";
}

at::Generator make_generator(const at::Device& device, uint64_t seed) {
  at::Generator generator = at::globalContext().defaultGenerator(device).clone();
  generator.set_current_seed(seed);
  return generator;
}

}  // namespace

StepRunner::StepRunner(const RunConfig& config, RunParts& parts)
    : config_(config),
      parts_(parts),
      optimizer_(parts.parameters, config.train.optimizer),
      loader_(*parts.train_rows, config.train.batch_rows),
      generator_(
          make_generator(parts.loaded.model.device, derive_seed(config.train.seed, "dropout"))),
      recorded_(
          parts.loaded.model.device,
          [this](const std::vector<RowBatch>& micros) { return forward_backward_update(micros); },
          may_record(config)) {}

std::optional<at::Tensor> StepRunner::teacher_hidden(const RowBatch& micro) const {
  if (config_.train.loss.teacher == 0) return std::nullopt;
  const at::NoGradGuard no_grad;
  return forward_hidden(*parts_.teacher, parts_.teacher_stack, micro.batch,
                        {.use_adapters = false});
}

at::Tensor StepRunner::backward(const RowBatch& micro, double weight) {
  const Model& model = parts_.loaded.model;
  ForwardOptions options;
  options.kept = config_.train.kept;
  if (config_.lora.dropout > 0) options.dropout_generator = generator_;
  const at::Tensor hidden = forward_hidden(model, parts_.loaded.stack, micro.batch, options);
  const at::Tensor head = model.weights.lm_head.to(hidden.scalar_type());
  const LossOptions& parts = config_.train.loss;
  const LinearCrossEntropyResult result = linear_cross_entropy(
      hidden, head, micro.targets, teacher_hidden(micro), parts.cross_entropy, parts.teacher);
  (result.loss * weight).backward();
  return at::stack({result.loss.detach(), result.cross_entropy}) * weight;
}

std::vector<at::Tensor> StepRunner::forward_backward_update(const std::vector<RowBatch>& micros) {
  int64_t num_targets = 0;
  for (const RowBatch& micro : micros) num_targets += micro.num_targets;
  optimizer_.zero_grad();
  at::Tensor loss;
  for (const RowBatch& micro : micros) {
    // Rows whose prompts fill them: nothing to learn from.
    if (micro.num_targets == 0) continue;
    const double weight = static_cast<double>(micro.num_targets) / static_cast<double>(num_targets);
    const at::Tensor part = backward(micro, weight);
    loss = loss.defined() ? loss + part : part;
  }
  if (!has_checked_gradients_) {
    check_gradients_reach(parts_.parameters);
    has_checked_gradients_ = true;
  }
  return {loss[0], optimizer_.step(), loss[1]};
}

std::vector<at::Tensor> StepRunner::step(double lr) {
  std::vector<RowBatch> micros;
  int64_t num_targets = 0;
  for (int64_t i = 0; i < config_.train.accumulate; ++i) {
    micros.push_back(make_row_batch(loader_.next(), at::kCPU));
    num_targets += micros.back().num_targets;
  }
  if (num_targets == 0)
    fail("data: a step's rows hold nothing to predict: no token that counts has a predecessor");
  optimizer_.set_rate(lr);
  return recorded_.run(micros);
}

void StepRunner::save(const std::filesystem::path& file) const {
  auto tensors = optimizer_.state();
  tensors.emplace_back(kGenerator, generator_.get_state());
  save_tensors(file, tensors);
}

void StepRunner::restore(const std::filesystem::path& file, const Json& data_position) {
  optimizer_.restore(file);
  generator_.set_state(to_tensor(SafetensorsFile(file).at(kGenerator), at::kCPU));
  loader_.restore(data_position);
}

}  // namespace tigon
