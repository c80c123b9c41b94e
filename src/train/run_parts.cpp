#include "train/run_parts.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <thread>

#include "core/log.h"
#include "core/random.h"
#include "eval/row_batch.h"
#include "linearize/calibrate.h"
#include "linearize/mixer_parameters.h"
#include "model/device.h"
#include "model/packed_linears.h"
#include "train/data_rows.h"
#include "train/micro_batch.h"

namespace tigon {
namespace {

void set_threads(int64_t threads) {
  const int64_t all = std::max(1u, std::thread::hardware_concurrency());
  at::set_num_threads(static_cast<int>(threads > 0 ? threads : all));
}

LoadedModel random_model(const RunConfig& config, const Tokenizer& tokenizer, at::ScalarType dtype,
                         at::Device device) {
  LoadedModel loaded;
  ModelConfig& model = loaded.model.config;
  model = config.random_model;
  if (tokenizer.bos_id()) model.bos_token_ids = {*tokenizer.bos_id()};
  if (tokenizer.eos_id()) model.eos_token_ids = {*tokenizer.eos_id()};
  model.raw = llama_config_json(model);
  loaded.model.weights =
      random_weights(model, derive_seed(config.train.seed, "model"), at::kFloat, device);
  loaded.model.rotary = make_rotary(model.rope, model.head_dim, device);
  loaded.model.compute_dtype = dtype;
  loaded.model.device = device;
  return loaded;
}

LoadedModel load(const RunConfig& config, const Tokenizer& tokenizer) {
  const at::Device device = choose_device(config.device);
  const at::ScalarType dtype = choose_dtype(config.dtype, device);
  if (config.is_random()) return random_model(config, tokenizer, dtype, device);
  // Weights that are trained are kept in float32.
  const at::ScalarType stored = config.train.trainable == "all" ? at::kFloat : dtype;
  LoadedModel loaded = load_any_model(config.model_path, stored, device);
  loaded.model.compute_dtype = dtype;
  if (!loaded.plan.is_teacher() && !config.plan.is_teacher() && loaded.plan != config.plan) {
    throw UsageError(fmt::format(
        "linearize: {} is linearized already ({}), with another plan than the config's ({})",
        config.model_path, loaded.plan.recipe, config.plan.recipe));
  }
  return loaded;
}

/// The last rows of an epoch: with order "rows" a short run never trains on them.
RowBatch calibration_batch(const RunConfig& config, const RunParts& parts, at::Device device) {
  const int64_t count = std::min(config.calibration_rows, parts.train_rows->size());
  MixtureReader reader(*parts.train_rows, parts.train_rows->size() - count);
  std::vector<Row> rows;
  for (int64_t i = 0; i < count; ++i) rows.push_back(reader.next());
  return make_row_batch(rows, device);
}

/// Chooses the windows and features of a plan with a budget, on the rows that mixers are calibrated
/// on.
std::optional<StateBudget> spend_budget(RunConfig& config, const Model& model,
                                        const RunParts& data) {
  if (config.plan.state_bytes == 0) return std::nullopt;
  if (!model.config.linearize.is_null()) {
    throw UsageError(
        fmt::format("linearize.state_bytes: {} is linearized already", config.model_path));
  }
  if (config.calibration_rows == 0) {
    throw UsageError("linearize.state_bytes: expected calibrate.rows above 0, found 0");
  }
  StateBudget budget = spend_state_budget(model, config.plan, config.plan.state_bytes,
                                          calibration_batch(config, data, model.device));
  config.plan.layer_windows = budget.layer_windows;
  config.plan.layer_feature_ranks = budget.layer_feature_ranks;
  config.plan.state_bytes = 0;
  return budget;
}

/// Calibrates the mixers, and remembers them as they are before training.
void prepare_mixers(const RunConfig& config, RunParts& parts) {
  const LoadedModel& loaded = parts.loaded;
  const bool is_new = loaded.model.config.linearize.is_null();
  if (is_new && config.calibration_rows > 0 && !mixer_parameters(loaded.stack).empty()) {
    const at::Device device = loaded.model.device;
    calibrate(loaded.model, loaded.stack, calibration_batch(config, parts, device).batch);
    log_info("train", "mixers calibrated on {} rows", config.calibration_rows);
  }
  parts.converted = copy_stack(loaded.plan, loaded.model, loaded.stack);
}

}  // namespace

void set_teacher(RunParts& parts, Model teacher) {
  parts.teacher_stack = make_teacher_stack(teacher.config);
  parts.teacher = std::move(teacher);
}

RunParts convert_for_training(const RunConfig& config, LoadedModel loaded) {
  RunParts parts;
  parts.loaded = std::move(loaded);
  const bool was_linearized = !parts.loaded.plan.is_teacher();
  if (!was_linearized) parts.loaded.plan = config.plan;
  parts.conversion = convert(parts.loaded.plan, parts.loaded.model);
  if (was_linearized) {
    parts.conversion.stack = parts.loaded.stack;  // with the mixers' trained parameters
  } else {
    parts.loaded.stack = parts.conversion.stack;
  }
  parts.parameters = make_trainable(parts.loaded, config.train.trainable, config.lora,
                                    derive_seed(config.train.seed, "lora"));
  if (!parts.loaded.model.device.is_cpu()) pack_linears(parts.loaded.model.weights);
  parts.table = count_parameters(parts.loaded, parts.parameters);
  return parts;
}

RunParts build_run_parts(RunConfig& config) {
  set_threads(config.threads);
  // The tokenizer first: an unsupported one is cheap to find.
  std::unique_ptr<Tokenizer> tokenizer =
      load_tokenizer(config.is_random() ? config.tokenizer_path : config.model_path);
  LoadedModel loaded = load(config, *tokenizer);
  RunParts data;
  open_data(config, *tokenizer, loaded.model.config.vocab_size, data);
  data.budget = spend_budget(config, loaded.model, data);
  RunParts parts = convert_for_training(config, std::move(loaded));
  parts.tokenizer = std::move(tokenizer);
  parts.budget = std::move(data.budget);
  parts.train_rows = std::move(data.train_rows);
  parts.validation_rows = std::move(data.validation_rows);
  parts.eval_rows = std::move(data.eval_rows);
  prepare_mixers(config, parts);
  if (config.needs_teacher()) {
    std::optional<Model> teacher = teacher_of(config, parts);
    if (!teacher) {
      throw UsageError(
          fmt::format("train.loss: a teacher needs its own attention, but {} is linearized already",
                      config.model_path));
    }
    set_teacher(parts, *std::move(teacher));
  }
  choose_micro_batch(config, parts);
  return parts;
}

std::optional<Model> teacher_of(const RunConfig& config, const RunParts& parts) {
  if (config.is_random() || !parts.loaded.model.config.linearize.is_null()) return std::nullopt;
  if (config.train.trainable != "all") return parts.loaded.model;
  const Model& student = parts.loaded.model;
  return load_model(config.model_path, student.compute_dtype, student.device);
}

int64_t model_bytes(const LoadedModel& loaded) {
  int64_t bytes = 0;
  const auto add = [&](const at::Tensor& tensor) {
    bytes += static_cast<int64_t>(tensor.nbytes());
  };
  visit_parameters(loaded.model.weights,
                   [&](const std::string&, const at::Tensor& tensor) { add(tensor); });
  for (const auto& [name, tensor] : adapter_parameters(loaded.model.weights)) add(tensor);
  for (const auto& [name, tensor] : mixer_parameters(loaded.stack)) add(tensor);
  return bytes;
}

}  // namespace tigon
