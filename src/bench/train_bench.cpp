#include "bench/train_bench.h"

#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <cmath>
#include <optional>

#include "bench/model_shapes.h"
#include "bench/random_rows.h"
#include "core/error.h"
#include "core/log.h"
#include "core/table.h"
#include "model/tensor_io.h"
#include "ops/linear_cross_entropy/linear_cross_entropy.h"
#include "train/hardware.h"
#include "train/host_copy.h"
#include "train/step_runner.h"

namespace tigon {
namespace {

constexpr uint64_t kSeed = 0;
// Allocators, the first check of gradients, and on a GPU the recording of a step.
constexpr int64_t kWarmUpSteps = 5;
constexpr int64_t kProductRepeats = 5;

RunConfig run_config(const TrainBenchOptions& options) {
  RunConfig config;
  config.plan = load_plan(options.recipe);
  config.lora.rank = options.lora_rank;
  config.lora.alpha = static_cast<double>(options.lora_rank);
  config.train.trainable = options.trainable;
  config.train.batch_rows = options.rows;
  config.train.steps = kWarmUpSteps + options.steps;
  config.train.kept = kept_for_memory(options.memory);
  if (options.has_teacher) config.train.loss = {.cross_entropy = 0.5, .teacher = 0.5};
  config.train.seed = kSeed;
  config.train_rows.seq_len = options.seq_len;
  return config;
}

RunParts make_parts(const TrainBenchOptions& options, const RunConfig& config) {
  const bool trains_all = options.trainable == "all";
  LoadedModel loaded;
  loaded.model =
      random_model_on_device(model_shape(options.shape), trains_all ? at::kFloat : options.dtype,
                             options.dtype, options.device);
  RunParts parts = convert_for_training(config, std::move(loaded));
  if (options.has_teacher) set_teacher(parts, parts.loaded.model);
  parts.train_rows.emplace(random_rows(config.train.steps * options.rows, options.seq_len,
                                       parts.loaded.model.config.vocab_size, kSeed));
  return parts;
}

/// Runs the steps as the training loop does: the numbers of one are read while the next one runs.
void time_steps(const TrainBenchOptions& options, TrainBenchResult& result) {
  const RunConfig config = run_config(options);
  RunParts parts = make_parts(options, config);
  result.parameters = parts.table.base;
  result.trained_parameters = parts.table.trainable;
  StepRunner runner(config, parts);
  TimeMarks marks(options.device);
  std::vector<double> losses;
  std::optional<ScalarsToHost> pending;
  const auto read_pending = [&] {
    if (!pending) return;
    losses.push_back(pending->read()[0]);
    if (!std::isfinite(losses.back())) {
      fail("step {}: the loss is {}", losses.size(), losses.back());
    }
  };
  for (int64_t step = 1; step <= config.train.steps; ++step) {
    if (step == kWarmUpSteps + 1) marks.mark();
    ScalarsToHost scalars(runner.step(config.train.optimizer.lr));
    if (step > kWarmUpSteps) marks.mark();
    read_pending();
    pending.emplace(std::move(scalars));
  }
  read_pending();
  result.step = summarize(marks.intervals());
  result.first_loss = losses.front();
  result.last_loss = losses.back();
  result.peak_memory_bytes = peak_memory_bytes(options.device);
}

StepShape step_shape(const TrainBenchOptions& options, int64_t vocabulary) {
  const bool is_gpu = !options.device.is_cpu();
  const int64_t tokens = options.rows * options.seq_len;
  // As linear_cross_entropy cuts them.
  const int64_t bytes_per_logit =
      is_gpu ? static_cast<int64_t>(c10::elementSize(options.dtype)) : sizeof(float);
  return {.tokens = tokens,
          .trains_all = options.trainable == "all",
          .lora_rank = options.lora_rank,
          .is_packed = is_gpu,
          .kept = kept_for_memory(options.memory),
          .has_teacher = options.has_teacher,
          .logits_tokens = cross_entropy_chunk_tokens(
              tokens, vocabulary, (options.has_teacher ? 2 : 1) * bytes_per_logit,
              is_gpu ? kKernelLogitBytes : kPlainLogitBytes)};
}

std::string setting_text(const TrainBenchOptions& options) {
  const std::string trained = options.trainable == "lora"
                                  ? fmt::format("LoRA of rank {}", options.lora_rank)
                                  : "all parameters";
  const std::string recipe = options.recipe + (options.has_teacher ? " with a teacher" : "");
  return fmt::format("{} shape, {}, {}, {} rows of {} tokens, {}, memory: {}", options.shape,
                     recipe, trained, options.rows, options.seq_len,
                     dtype_name(to_dtype(options.dtype)), options.memory);
}

/// What follows from the measurements.
struct Derived {
  Derived(const TrainBenchOptions& options, const TrainBenchResult& result)
      : tokens_per_s(static_cast<double>(options.rows * options.seq_len) / result.step.median),
        flop_per_s(static_cast<double>(result.model_flop) / result.step.median),
        share_of_products(result.products_time.median / result.step.median),
        share_of_ceiling(flop_per_s / result.ceilings.flop_per_s) {}
  double tokens_per_s, flop_per_s, share_of_products, share_of_ceiling;
};

}  // namespace

TrainBenchResult bench_train(const TrainBenchOptions& options) {
  if (options.has_teacher && options.trainable == "all") {
    throw UsageError("a teacher shares the frozen weights: expected trainable lora, found all");
  }
  at::manual_seed(kSeed);
  TrainBenchResult result;
  if (!options.device.is_cpu()) {
    c10::getDeviceAllocator(options.device.type())->resetPeakStats(options.device.index());
  }
  log_info("bench", "{}", setting_text(options));
  time_steps(options, result);

  const ModelConfig model = model_shape(options.shape);
  StepShape shape = step_shape(options, model.vocab_size);
  result.products = step_products(model, shape);
  shape.kept = Kept::kEverything;
  result.model_flop = total_flop(step_products(model, shape));
  const Stopwatch stopwatch(options.device, kProductRepeats);
  result.products_time = time_products(stopwatch, result.products, options.dtype);
  result.ceilings = measure_ceilings(stopwatch, options.dtype);
  return result;
}

BenchReport report_train(const TrainBenchOptions& options, const TrainBenchResult& result) {
  const Derived derived(options, result);
  constexpr double kGiB = 1 << 30;
  const auto milliseconds = [](const Timing& timing) {
    return fmt::format("{:.2f} ({:.2f} to {:.2f})", timing.median * 1e3, timing.min * 1e3,
                       timing.max * 1e3);
  };
  BenchReport report{.title = "A training step, " + setting_text(options)};
  report.sources = {"src/ops", "src/lora", "src/model", "src/train"};
  report.text =
      ceilings_to_text(result.ceilings) + "\n\n" +
      format_table(
          {setting_text(options), ""},
          {{"parameters", fmt::format("{}", result.parameters)},
           {"trained parameters", fmt::format("{}", result.trained_parameters)},
           {"tokens/s", fmt::format("{:.0f}", derived.tokens_per_s)},
           {"ms a step, median (min to max)", milliseconds(result.step)},
           {"ms of its matrix products alone", milliseconds(result.products_time)},
           {"share of the matrix products' time",
            fmt::format("{:.0f} %", 100 * derived.share_of_products)},
           {"TFLOP/s of the model's products", fmt::format("{:.3g}", derived.flop_per_s / 1e12)},
           {"share of the matrix ceiling", fmt::format("{:.0f} %", 100 * derived.share_of_ceiling)},
           {"peak memory, GiB",
            fmt::format("{:.2f}", static_cast<double>(result.peak_memory_bytes) / kGiB)},
           {"loss of the first and the last step",
            fmt::format("{:.4f}, {:.4f}", result.first_loss, result.last_loss)}});
  report.json = {{"shape", options.shape},
                 {"recipe", options.recipe},
                 {"teacher", options.has_teacher},
                 {"rows", options.rows},
                 {"seq_len", options.seq_len},
                 {"steps", options.steps},
                 {"trainable", options.trainable},
                 {"lora_rank", options.lora_rank},
                 {"memory", options.memory},
                 {"device", options.device.str()},
                 {"dtype", dtype_name(to_dtype(options.dtype))},
                 {"parameters", result.parameters},
                 {"trained_parameters", result.trained_parameters},
                 {"tokens_per_s", derived.tokens_per_s},
                 {"step", timing_to_json(result.step)},
                 {"matrix_products", timing_to_json(result.products_time)},
                 {"share_of_matrix_products", derived.share_of_products},
                 {"model_flop", result.model_flop},
                 {"model_tflop_per_s", derived.flop_per_s / 1e12},
                 {"share_of_matrix_ceiling", derived.share_of_ceiling},
                 {"peak_memory_bytes", result.peak_memory_bytes},
                 {"first_loss", result.first_loss},
                 {"last_loss", result.last_loss},
                 {"ceilings", ceilings_to_json(result.ceilings)},
                 {"product_shapes", products_to_json(result.products)}};
  return report;
}

}  // namespace tigon
