#include <ATen/ATen.h>

#include <chrono>

#include "core/progress.h"
#include "core/table.h"
#include "train/hardware.h"
#include "train/schedule.h"
#include "train/step_runner.h"
#include "train/train.h"

namespace tigon {
namespace {

/// Seconds of one step, the work on the device included.
double timed_step(StepRunner& runner, double lr) {
  const auto start = std::chrono::steady_clock::now();
  for (const at::Tensor& value : runner.step(lr)) value.item<float>();  // waits for the device
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <class Rows>
std::string row_text(const std::optional<Rows>& rows) {
  return rows ? fmt::format("{} rows", rows->size()) : "none";
}

}  // namespace

std::string dry_run(const RunConfig& given) {
  RunConfig config = given;
  RunParts parts = build_run_parts(config);
  StepRunner runner(config, parts);
  const Schedule schedule(config.train.schedule, config.train.optimizer.lr, config.total_steps());
  timed_step(runner, schedule.rate(1));  // the first one also warms up allocators and caches
  const double step_seconds = timed_step(runner, schedule.rate(1));

  const at::Device device = parts.loaded.model.device;
  const double weights = static_cast<double>(model_bytes(parts.loaded));
  const double gradients = static_cast<double>(parts.table.trainable) * sizeof(float);
  const double moments = static_cast<double>(runner.optimizer_bytes());
  const double peak = static_cast<double>(peak_memory_bytes(device));
  const double activations = std::max(peak - weights - gradients - moments, 0.0);
  const double tokens = static_cast<double>(config.tokens_per_step());
  const double total_steps = static_cast<double>(config.total_steps());
  const double row_tokens = static_cast<double>(config.train_rows.seq_len);
  const double data_tokens = static_cast<double>(parts.train_rows->size()) * row_tokens;

  std::string text = parameters_to_text(parts.table) + "\n";
  text += format_table(
      {"memory", "bytes"},
      {{"weights", format_bytes(weights)},
       {"gradients", format_bytes(gradients)},
       {"optimizer", format_bytes(moments)},
       {device.is_cpu() ? "activations and program (measured)" : "activations (measured)",
        format_bytes(activations)},
       {"peak after two steps (measured)", format_bytes(peak)}});
  text += "\n";
  text += format_table(
      {"run", ""},
      {{"device", device.str()},
       {"steps", fmt::format("{}", config.total_steps())},
       {"tokens a step", format_count(tokens)},
       {"tokens", format_count(tokens * total_steps)},
       {"passes over the data", fmt::format("{:.2f}", tokens * total_steps / data_tokens)},
       {"training data", row_text(parts.train_rows)},
       {"validation", row_text(parts.validation_rows)},
       {"evaluation", row_text(parts.eval_rows)},
       {"a step (measured)", fmt::format("{:.3f} s", step_seconds)},
       {"tokens/s (measured)", format_count(tokens / step_seconds)},
       {"training time, validations aside", format_duration(step_seconds * total_steps)}});
  return text;
}

}  // namespace tigon
