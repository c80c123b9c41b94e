#include "train/train.h"

#include "core/interrupt.h"
#include "core/log.h"
#include "core/progress.h"
#include "core/table.h"
#include "export/hf_folder.h"
#include "train/model_checkpoint.h"
#include "train/run_folder.h"
#include "train/run_json.h"
#include "train/trainer.h"
#include "train/weight_change.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

void log_text(std::string_view area, const std::string& text) {
  size_t start = 0;
  while (start < text.size()) {
    const size_t end = std::min(text.find('\n', start), text.size());
    log_info(area, "{}", text.substr(start, end - start));
    start = end + 1;
  }
}

void log_start(const RunConfig& config, const RunParts& parts) {
  if (parts.budget) log_text("linearize", state_budget_to_text(*parts.budget));
  log_text("linearize", report_to_text(parts.conversion.report));
  log_text("train", parameters_to_text(parts.table));
  log_info("data", "{} training rows of {} tokens; the run reads {} in {} steps of {}",
           parts.train_rows->size(), config.train_rows.seq_len,
           format_count(static_cast<double>(config.total_steps() * config.tokens_per_step())),
           config.total_steps(), format_count(static_cast<double>(config.tokens_per_step())));
}

/// Brings the result into the model: the best checkpoint where one was validated, else the last.
void load_result(const RunConfig& config, RunParts& parts, const TrainerState& state,
                 const fs::path& run_folder, Json& run) {
  const bool has_best = state.best_step > 0;
  const int64_t step = has_best ? state.best_step : state.step;
  run["result"] = {{"checkpoint", has_best ? "best" : "last"}, {"step", step}};
  if (step != state.step) {
    const CheckpointFolder checkpoints(run_folder / "checkpoints");
    restore_trained(checkpoints.step_path(step), config, parts);
  }
  for (const Parameter& parameter : parts.parameters) parameter.tensor.mutable_grad().reset();
}

fs::path export_result(const RunConfig& config, const RunParts& parts, const RunFolder& folder,
                       const Json& results) {
  ExportOptions options;
  options.base_folder = config.is_random() ? config.tokenizer_path : config.model_path;
  options.dtype = config.export_dtype;
  options.results = results;
  options.replace = true;
  const fs::path out = folder.path() / config.export_to;
  export_merged(parts.loaded, parts.conversion, out, options);
  return out;
}

std::string summary_text(const Json& run, const Comparison& comparison, const fs::path& folder) {
  std::string text;
  if (!comparison.rows.empty()) text += comparison_to_text(comparison) + "\n";
  text += fmt::format("trained {} tokens in {}, {} tokens/s, peak memory {}\n",
                      format_count(run.at("tokens").get<double>()),
                      format_duration(run.at("wall_seconds").get<double>()),
                      format_count(run.at("tokens_per_s").get<double>()),
                      format_bytes(run.at("peak_memory_bytes").get<double>()));
  if (run.contains("export"))
    text += fmt::format("exported  {}\n", run["export"].get<std::string>());
  text += fmt::format("report    {}\n", (folder / "report.html").string());
  return text;
}

/// A stage before `train`, in a folder of its own. → the signal that ended it, or 0.
int run_earlier_stage(const RunConfig& config, const EarlierStage& earlier, RunParts& parts,
                      const fs::path& folder, Json& run) {
  RunConfig stage = config;
  stage.train = earlier.options;
  const std::vector<Parameter> all = parts.parameters;
  if (earlier.only_new) {
    std::erase_if(parts.parameters, [](const Parameter& parameter) { return !parameter.is_new; });
  }
  if (parts.parameters.empty()) {
    throw UsageError(fmt::format("{}: expected a recipe that adds parameters, found {}",
                                 earlier.name, parts.loaded.plan.recipe));
  }
  fs::create_directories(folder);
  log_info("train", "{}: {} steps of {} tokens", earlier.name, stage.total_steps(),
           format_count(static_cast<double>(stage.tokens_per_step())));
  Trainer trainer(stage, parts, folder);
  const int signal = trainer.run([](const TrainerState&) {});
  run["stages"].push_back({{"name", earlier.name},
                           {"steps", trainer.state().step},
                           {"tokens", trainer.state().tokens},
                           {"wall_seconds", trainer.state().wall_seconds}});
  for (const Parameter& parameter : all) parameter.tensor.mutable_grad().reset();
  parts.parameters = all;
  return signal;
}

/// Everything after the set-up: steps, evaluation, export. Fills the outcome as it goes.
void run_to_end(const RunConfig& config, RunParts& parts, RunFolder& folder,
                TrainOutcome& outcome) {
  Json& run = outcome.run;
  const at::Device device = parts.loaded.model.device;
  TrainerState state;
  run["stages"] = Json::array();
  for (const EarlierStage& stage : config.earlier_stages) {
    if (outcome.interrupted_by != 0) break;
    outcome.interrupted_by =
        run_earlier_stage(config, stage, parts, folder.path() / stage.name, run);
  }
  if (outcome.interrupted_by == 0) {
    Trainer trainer(config, parts, folder.path());
    add_progress(run, trainer.state(), device);
    folder.write(run);
    outcome.interrupted_by = trainer.run([&](const TrainerState& saved) {
      add_progress(run, saved, device);
      folder.write(run);
    });
    state = trainer.state();
  }
  const auto stop_if_interrupted = [&] {
    if (outcome.interrupted_by == 0) outcome.interrupted_by = pending_interrupt();
    if (outcome.interrupted_by == 0) return false;
    run["status"] = "interrupted";
    folder.write(run);
    outcome.summary = fmt::format("interrupted after step {}; --resume continues\n", state.step);
    return true;
  };
  if (stop_if_interrupted()) return;

  load_result(config, parts, state, folder.path(), run);
  const Comparison comparison = evaluate_results(config, parts);
  run["results"] = comparison_to_json(comparison);
  run["weight_change"] = weight_change(config, parts);
  if (stop_if_interrupted()) return;
  if (!config.export_to.empty()) {
    run["export"] = export_result(config, parts, folder, run["results"]).string();
  }
  add_progress(run, state, device);
  run["status"] = "complete";
  folder.write(run);
  outcome.summary = summary_text(run, comparison, folder.path());
}

/// Leaves "failed" and the reason in run.json. What stopped the run may stop this too: the first
/// error is the one to report.
void record_failure(const RunFolder& folder, Json& run, const char* reason) noexcept {
  try {
    run["status"] = "failed";
    run["error"] = reason;
    folder.write(run);
  } catch (const std::exception& second) {
    log_warning("train", "run.json could not be written: {}", second.what());
  }
}

}  // namespace

TrainOutcome run_training(const RunConfig& given, bool resume) {
  RunConfig config = given;
  RunFolder folder(config, resume);
  TrainOutcome outcome;
  if (folder.is_complete()) {
    outcome.run = read_json_file(folder.path() / "run.json");
    outcome.summary = fmt::format("{} is complete already\n", folder.path().string());
    return outcome;
  }
  RunParts parts = build_run_parts(config);
  folder.start();
  log_start(config, parts);
  outcome.run = describe_run(config, parts);
  try {
    run_to_end(config, parts, folder, outcome);
  } catch (const std::exception& problem) {
    record_failure(folder, outcome.run, problem.what());
    throw;
  }
  return outcome;
}

}  // namespace tigon
