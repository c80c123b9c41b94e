#include "train/run_parts.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <thread>

#include "core/log.h"
#include "core/random.h"
#include "linearize/mixer_parameters.h"
#include "model/device.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

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

std::vector<fs::path> paths(const std::vector<std::string>& names) {
  return {names.begin(), names.end()};
}

/// Makes row sets of a run; the shards behind them are tokenized once and found again.
class RowSource {
 public:
  RowSource(const RunConfig& config, const Tokenizer& tokenizer, int64_t vocab_size)
      : config_(config), tokenizer_(tokenizer), vocab_size_(vocab_size) {}

  RowSet train() const {
    RowSet rows = open(config_.train_files, config_.train_rows);
    if (config_.validation_fraction > 0) rows.split_off_last(held_out_count(rows));
    return rows;
  }
  /// Every held-out row.
  RowSet held_out() const {
    if (!config_.validation_files.empty()) {
      return open(config_.validation_files, config_.validation_rows);
    }
    RowSet rows = open(config_.train_files, config_.train_rows);
    return rows.split_off_last(held_out_count(rows));
  }

 private:
  RowSet open(const std::vector<std::string>& files, const RowOptions& options) const {
    const fs::path cache =
        config_.cache_folder.empty() ? default_cache_folder() : fs::path(config_.cache_folder);
    return RowSet(open_token_shard(paths(files), tokenizer_, cache, at::get_num_threads()), options,
                  tokenizer_.bos_id().value_or(-1), vocab_size_);
  }
  int64_t held_out_count(const RowSet& rows) const {
    const double share = config_.validation_fraction * static_cast<double>(rows.size());
    const int64_t count = std::max<int64_t>(1, static_cast<int64_t>(share));
    if (count >= rows.size()) {
      fail("data.validation_fraction: {} row(s) are too few to hold any out", rows.size());
    }
    return count;
  }

  const RunConfig& config_;
  const Tokenizer& tokenizer_;
  int64_t vocab_size_;
};

}  // namespace

RunParts build_run_parts(const RunConfig& config) {
  set_threads(config.threads);
  RunParts parts;
  // The tokenizer first: an unsupported one is cheap to find.
  parts.tokenizer = load_tokenizer(config.is_random() ? config.tokenizer_path : config.model_path);
  parts.loaded = load(config, *parts.tokenizer);
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
  parts.table = count_parameters(parts.loaded, parts.parameters);

  const RowSource source(config, *parts.tokenizer, parts.loaded.model.config.vocab_size);
  parts.train_rows.emplace(source.train());
  if (config.has_validation()) {
    // Evaluation takes the first rows, validation the last: the checkpoint is not chosen on the
    // rows it is judged by, unless there are too few of them.
    const RowSet held_out = source.held_out();
    const int64_t eval = std::min(config.eval_rows, held_out.size());
    const int64_t validation = std::min(config.train.validation_rows, held_out.size());
    parts.eval_rows.emplace(held_out.part(0, eval));
    parts.validation_rows.emplace(held_out.part(held_out.size() - validation, validation));
  }
  if (parts.train_rows->size() < config.rows_per_step()) {
    log_warning("data", "a step reads {} rows but the data has only {}: rows repeat within a step",
                config.rows_per_step(), parts.train_rows->size());
  }
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
