#include "train/run_json.h"

#include <array>
#include <chrono>

#include "generated/version.h"
#include "model/tensor_io.h"
#include "train/data_rows.h"
#include "train/hardware.h"

namespace tigon {
namespace {

constexpr std::array<int64_t, 6> kStateLengths = {1 << 10, 1 << 12, 1 << 14,
                                                  1 << 15, 1 << 17, 1 << 20};

std::string now_utc() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm utc{};
  gmtime_r(&now, &utc);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text.data();
}

std::vector<const TokenShard*> shards_of(const RowSet& rows) {
  std::vector<const TokenShard*> shards;
  for (const TokenShard& shard : rows.shards()) shards.push_back(&shard);
  return shards;
}

Json describe_rows(const std::optional<RowSet>& rows, const std::vector<DataSource>& sources) {
  if (!rows) return nullptr;
  return {{"shard", rows->shard_key()},
          {"rows", rows->size()},
          {"tokens", rows->size() * rows->options().seq_len},
          {"sources", describe_sources(sources, shards_of(*rows))}};
}

Json describe_mixture(const Mixture& rows, const std::vector<DataSource>& sources) {
  std::vector<const TokenShard*> shards;
  for (const MixtureEntry& entry : rows.entries()) {
    for (const TokenShard* shard : shards_of(entry.rows)) shards.push_back(shard);
  }
  return {{"shard", rows.key()},
          {"rows", rows.size()},
          {"tokens", rows.size() * rows.seq_len()},
          {"sources", describe_sources(sources, shards)}};
}

/// Bytes one sequence keeps, by its length, in the teacher and in the student.
Json state_bytes(const LoadedModel& loaded) {
  const MixerStack teacher = make_teacher_stack(loaded.model.config);
  const at::ScalarType dtype = loaded.model.compute_dtype;
  Json lengths = Json::array();
  for (const int64_t tokens : kStateLengths) {
    lengths.push_back({{"tokens", tokens},
                       {"teacher", state_bytes_per_sequence(teacher, tokens, dtype)},
                       {"student", state_bytes_per_sequence(loaded.stack, tokens, dtype)}});
  }
  return lengths;
}

/// What one sequence keeps in the student, by one number: where it does not grow, that; else at
/// 32 K tokens.
Json state_size(const LoadedModel& loaded) {
  const ModelConfig& model = loaded.model.config;
  const at::ScalarType dtype = loaded.model.compute_dtype;
  const auto bytes = [&](int64_t tokens) {
    return state_bytes_per_sequence(loaded.stack, tokens, dtype);
  };
  constexpr int64_t kLong = 1 << 20, kUsual = 1 << 15;
  const bool is_constant = bytes(kLong) == bytes(kLong / 2);
  const int64_t tokens = is_constant ? kLong : kUsual;
  const double per_head = static_cast<double>(bytes(tokens)) /
                          static_cast<double>(model.num_layers * model.num_kv_heads);
  return {{"is_constant", is_constant},
          {"tokens", tokens},
          {"bytes", bytes(tokens)},
          {"bytes_per_layer_and_kv_head", per_head}};
}

std::optional<KnownLosses> known_losses(const RunConfig& config) {
  if (config.known_losses.empty() || config.is_random()) return std::nullopt;
  return KnownLosses(config.known_losses, checkpoint_fingerprint(config.model_path));
}

ComparisonRow base_row(const RunConfig& config, const RunParts& parts) {
  const LoadedModel& loaded = parts.loaded;
  const std::optional<KnownLosses> known = known_losses(config);
  const int64_t rows_per_batch = config.train.batch_rows;
  const std::string title = "evaluate base";
  ComparisonRow row;
  row.name = "base";
  row.result =
      known ? known->loss(loaded.model, loaded.stack, *parts.eval_rows, rows_per_batch, title)
            : evaluate_loss(loaded.model, loaded.stack, *parts.eval_rows, rows_per_batch,
                            /*use_adapters=*/false, title);
  return row;
}

ComparisonRow trained_row(const RunConfig& config, const RunParts& parts) {
  ComparisonRow row;
  row.name = "trained";
  row.result = evaluate_loss(parts.loaded.model, parts.loaded.stack, *parts.eval_rows,
                             config.train.batch_rows, /*use_adapters=*/true, "evaluate trained");
  return row;
}

Comparison evaluate_whole_rows(const RunConfig& config, const RunParts& parts) {
  const std::optional<Model> teacher = teacher_of(config, parts);
  if (teacher && !parts.loaded.plan.is_teacher()) {
    const std::optional<KnownLosses> known = known_losses(config);
    return compare(parts.loaded, *teacher, *parts.eval_rows, config.train.batch_rows,
                   parts.converted, known ? &*known : nullptr);
  }
  Comparison comparison;
  if (config.train.trainable == "lora") comparison.rows.push_back(base_row(config, parts));
  comparison.rows.push_back(trained_row(config, parts));
  return comparison;
}

}  // namespace

Json describe_run(const RunConfig& config, const RunParts& parts) {
  const LoadedModel& loaded = parts.loaded;
  Json run;
  run["status"] = "running";
  run["written"] = now_utc();
  run["versions"] = {
      {"tigon", kVersion}, {"git", kGitHash}, {"libtorch", kTorchVersion}, {"cuda", kCudaVersion}};
  run["hardware"] = describe_hardware(loaded.model.device);
  run["model"] = {{"path", config.is_random() ? Json(nullptr) : Json(config.model_path)},
                  {"init", config.is_random() ? "random" : "pretrained"},
                  {"layers", loaded.model.config.num_layers},
                  {"kv_heads", loaded.model.config.num_kv_heads},
                  {"dtype", dtype_name(to_dtype(loaded.model.compute_dtype))}};
  run["plan"] = plan_to_json(loaded.plan);
  run["mixers"] = parts.conversion.report.layers;
  run["parameters"] = parameters_to_json(parts.table);
  // Validation may be a part of the training data.
  const std::vector<DataSource>& held_out =
      config.validation_sources.empty() ? config.train_sources : config.validation_sources;
  run["data"] = {{"train", describe_mixture(*parts.train_rows, config.train_sources)},
                 {"validation", describe_rows(parts.validation_rows, held_out)},
                 {"evaluation", describe_rows(parts.eval_rows, held_out)},
                 {"seq_len", config.train_rows.seq_len}};
  run["planned"] = {{"steps", config.total_steps()},
                    {"tokens", config.total_steps() * config.tokens_per_step()}};
  run["state_bytes"] = state_bytes(loaded);
  if (parts.budget) run["state_budget"] = state_budget_to_json(*parts.budget);
  run["state"] = state_size(loaded);
  return run;
}

void add_progress(Json& run, const TrainerState& state, const at::Device& device) {
  run["written"] = now_utc();
  run["steps"] = state.step;
  run["tokens"] = state.tokens;
  run["wall_seconds"] = state.wall_seconds;
  run["tokens_per_s"] =
      state.wall_seconds > 0 ? static_cast<double>(state.tokens) / state.wall_seconds : 0;
  run["peak_memory_bytes"] = peak_memory_bytes(device);
  run["stopped_early"] = state.is_stopped_early;
  if (state.best_loss) {
    run["best_validation"] = {{"step", state.best_step}, {"loss", *state.best_loss}};
  }
}

Comparison evaluate_results(const RunConfig& config, const RunParts& parts) {
  if (!parts.eval_rows) return {};
  Comparison comparison = evaluate_whole_rows(config, parts);
  if (config.decode_rows > 0) {
    add_decoded_row(comparison, parts.loaded, *parts.eval_rows, config.decode_rows);
  }
  return comparison;
}

}  // namespace tigon
