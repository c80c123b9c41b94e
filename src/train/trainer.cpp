#include "train/trainer.h"

#include <algorithm>
#include <cmath>

#include "core/interrupt.h"
#include "core/log.h"
#include "eval/perplexity.h"
#include "train/hardware.h"
#include "train/model_checkpoint.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

bool is_due(int64_t step, int64_t every) {
  return every > 0 && step % every == 0;
}

}  // namespace

Trainer::Trainer(const RunConfig& config, RunParts& parts, const fs::path& run_folder)
    : config_(config),
      parts_(parts),
      checkpoints_(run_folder / "checkpoints"),
      runner_(config, parts),
      schedule_(config.train.schedule, config.train.optimizer.lr, config.total_steps()) {
  if (const auto last = checkpoints_.step_of("last")) resume(*last);
  metrics_ = std::make_unique<MetricsFile>(run_folder / "metrics.jsonl", state_.step);
  events_ = std::make_unique<TensorBoardEvents>(run_folder, state_.step + 1);
  start_ = last_record_ = std::chrono::steady_clock::now();
}

void Trainer::resume(int64_t step) {
  const fs::path folder = checkpoints_.step_path(step);
  state_ = read_trainer_state(folder / "trainer_state.json");
  restore_trained(folder, config_, parts_);
  try {
    runner_.restore(folder / "optimizer.safetensors", state_.data_position);
    schedule_.restore(state_.schedule_state);
  } catch (const Json::exception& error) {
    fail("{}: {}", (folder / "trainer_state.json").string(), error.what());
  }
  saved_step_ = state_.step;
  earlier_seconds_ = state_.wall_seconds;
  log_info("train", "continuing after step {} of {}", state_.step, config_.total_steps());
}

bool Trainer::is_done() const {
  return state_.is_stopped_early || state_.step >= config_.total_steps();
}

int Trainer::run(const std::function<void(const TrainerState&)>& on_checkpoint) {
  if (is_done()) return 0;
  const TrainOptions& train = config_.train;
  progress_ = std::make_unique<Progress>("train", config_.total_steps() * config_.tokens_per_step(),
                                         "tokens", state_.tokens);
  int signal = 0;
  while (!is_done() && signal == 0) {
    train_step();
    const bool is_last = state_.step == config_.total_steps();
    const bool validates = parts_.validation_rows.has_value() &&
                           (is_last || is_due(state_.step, train.validate_every));
    if (validates) validate();
    signal = pending_interrupt();
    const bool saves = validates || is_last || is_due(state_.step, train.checkpoint_every);
    if (!saves && signal == 0) continue;
    save();
    on_checkpoint(state_);
  }
  progress_->finish();
  return signal;
}

void Trainer::train_step() {
  const double lr = schedule_.rate(state_.step + 1);
  ScalarsToHost scalars(runner_.step(lr));
  state_.step += 1;
  state_.tokens += config_.tokens_per_step();
  // On a GPU the numbers of a step are read while the next one runs.
  record_pending();
  pending_.emplace(Pending{state_.step, state_.tokens, lr, std::move(scalars)});
  if (parts_.loaded.model.device.is_cpu()) record_pending();
}

void Trainer::record_pending() {
  if (!pending_) return;
  const std::vector<float> values = pending_->scalars.read();
  StepMetrics metrics{.step = pending_->step,
                      .tokens = pending_->tokens,
                      .loss = values[0],
                      .lr = pending_->lr,
                      .grad_norm = values[1]};
  const bool has_parts = config_.train.loss.teacher > 0 || config_.train.loss.cross_entropy != 1;
  if (has_parts) metrics.cross_entropy = values[2];
  pending_.reset();
  const auto refuse = [&](const char* what, float value) {
    fail(
        "step {}: the {} is {}; nothing was saved after step {} (a lower train.optimizer.lr or "
        "train.optimizer.clip_norm may help)",
        metrics.step, what, value, saved_step_);
  };
  if (!std::isfinite(metrics.loss)) refuse("loss", metrics.loss);
  if (!std::isfinite(metrics.grad_norm)) refuse("gradient norm", metrics.grad_norm);
  metrics.tokens_per_s =
      static_cast<double>(config_.tokens_per_step()) / std::max(seconds_since(last_record_), 1e-9);
  last_record_ = std::chrono::steady_clock::now();
  metrics.memory = memory();
  metrics_->write(metrics);
  events_->scalar("train/loss", metrics.step, metrics.loss);
  if (metrics.cross_entropy) {
    events_->scalar("train/cross_entropy", metrics.step, *metrics.cross_entropy);
  }
  events_->scalar("train/lr", metrics.step, static_cast<float>(metrics.lr));
  events_->scalar("train/grad_norm", metrics.step, metrics.grad_norm);
  events_->scalar("train/tokens_per_s", metrics.step, static_cast<float>(metrics.tokens_per_s));
  progress_->update(metrics.tokens, fmt::format("loss {:.4f}", metrics.loss));
}

void Trainer::validate() {
  record_pending();
  const double loss = evaluate_loss(parts_.loaded.model, parts_.loaded.stack,
                                    *parts_.validation_rows, config_.train.batch_rows,
                                    /*use_adapters=*/true, "validate")
                          .nats_per_token;
  last_record_ = std::chrono::steady_clock::now();
  if (!std::isfinite(loss)) {
    fail("step {}: the validation loss is {}; nothing was saved after step {}", state_.step, loss,
         saved_step_);
  }
  metrics_->write_validation(state_.step, loss);
  events_->scalar("validation/loss", state_.step, static_cast<float>(loss));
  schedule_.observe_validation(loss);
  const bool is_better = !state_.best_loss || loss < *state_.best_loss;
  log_info("train", "step {}: validation loss {:.4f}{}", state_.step, loss,
           is_better ? " (best)" : "");
  if (is_better) {
    state_.best_loss = loss;
    state_.best_step = state_.step;
    state_.validations_without_improvement = 0;
    return;
  }
  const int64_t patience = config_.train.early_stop_patience;
  if (++state_.validations_without_improvement >= patience && patience > 0) {
    state_.is_stopped_early = true;
    log_info("train", "stopping early: no improvement in {} validations; best was step {}",
             patience, state_.best_step);
  }
}

void Trainer::save() {
  record_pending();
  check_finite(parts_.parameters, fmt::format("step {}", state_.step));
  metrics_->sync();
  events_->flush();
  state_.wall_seconds = wall_seconds();
  state_.data_position = runner_.data_position();
  state_.schedule_state = schedule_.state();
  checkpoints_.write(state_.step, [&](const fs::path& folder) {
    save_trained(folder, config_, parts_);
    runner_.save(folder / "optimizer.safetensors");
    write_json_file(folder / "trainer_state.json", trainer_state_to_json(state_));
  });
  saved_step_ = state_.step;
  if (state_.best_step == state_.step) checkpoints_.point("best", state_.step);
  checkpoints_.point("last", state_.step);
  checkpoints_.prune(config_.train.checkpoint_every);
  last_record_ = std::chrono::steady_clock::now();
}

double Trainer::wall_seconds() const {
  return earlier_seconds_ + seconds_since(start_);
}

int64_t Trainer::memory() const {
  const at::Device device = parts_.loaded.model.device;
  if (!device.is_cpu()) return peak_memory_bytes(device);
  const int64_t gradients = parts_.table.trainable * static_cast<int64_t>(sizeof(float));
  return model_bytes(parts_.loaded) + gradients + runner_.optimizer_bytes();
}

}  // namespace tigon
