// One YAML = one training run.
#pragma once
#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/config_reader.h"
#include "data/data_source.h"
#include "data/rows.h"
#include "io/model_config.h"
#include "linearize/plan.h"
#include "lora/lora.h"
#include "model/forward.h"

namespace tigon {

/// train.optimizer: AdamW.
struct OptimizerOptions {
  double lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.01;
  // Of the parameters that a recipe adds; `new:` in the file, without it as for the others.
  double new_lr = 1e-3, new_weight_decay = 0.01;
  double clip_norm = 1.0;  // over all gradients; 0: no clipping
};

/// train.loss: the weights of its parts. `teacher` is the cross-entropy to the predictions of the
/// teacher, the same frozen weights with their own mixers.
/// `attention` is the mean squared difference of every mixer's output from that of the teacher's
/// attention on the same inputs (linearize/transfer.h); it reaches only what mixers add.
struct LossOptions {
  double cross_entropy = 1;
  double teacher = 0;
  double attention = 0;

  bool has_logits() const { return cross_entropy + teacher > 0; }
  bool needs_teacher() const { return teacher > 0 || attention > 0; }
};

/// train.schedule; train/schedule.h has the formulas.
struct ScheduleOptions {
  std::string kind = "constant";  // constant | cosine | plateau
  int64_t warmup_steps = 0;
  double final_ratio = 0.02;  // cosine: last rate over lr
  double factor = 0.1;        // plateau: stepped at each validation
  int64_t patience = 10;
  double threshold = 1e-4;
  double min_lr = 1e-5;
};

/// What train.memory says: "speed", "balanced" or "smallest".
Kept kept_for_memory(const std::string& memory);

/// A stage of training: `train`, or one before it.
struct TrainOptions {
  std::string trainable = "lora";  // lora | all | new
  int64_t steps = 0;               // exactly one of steps, tokens and epochs is given
  int64_t tokens = 0;              // rounded up to whole steps
  double epochs = 0;               // of the training rows, rounded up to whole steps
  int64_t batch_rows = 8;          // rows a micro-batch
  int64_t accumulate = 1;          // micro-batches a step; 0: auto (train/micro_batch.h)
  LossOptions loss;
  OptimizerOptions optimizer;
  ScheduleOptions schedule;
  int64_t validate_every = 0;  // steps; 0: only at the end
  int64_t validation_rows = 64;
  int64_t early_stop_patience = 0;  // validations without improvement; 0: never
  int64_t checkpoint_every = 0;     // steps; these are all kept; 0: only best and last
  Kept kept = Kept::kEverything;    // `memory:` speed | balanced | smallest
  uint64_t seed = 0;                // `seed:` at the top of the file
};

/// A stage before `train`, in a section of its name.
struct EarlierStage {
  std::string name;
  TrainOptions options;   // trainable as the run's
  bool only_new = false;  // trains nothing but the parameters that the recipe adds
};

struct RunConfig {
  std::string model_path;      // empty: random
  ModelConfig random_model;    // model: {init: random, …}
  std::string tokenizer_path;  // of a randomly initialised model
  Plan plan;
  LoraOptions lora;
  std::vector<DataSource> train_sources, validation_sources;
  double validation_fraction = 0;  // of the training rows, where there are no validation sources
  std::string cache_folder;        // of tokenized text; empty: default_cache_folder()
  RowOptions train_rows, validation_rows;
  // `stages`: calibration, if any; then these; then `train`, which is what this struct says of
  // steps and tokens.
  std::vector<EarlierStage> earlier_stages;
  TrainOptions train;
  // calibrate.rows: training rows, the last of an epoch, that a teacher runs over before training.
  int64_t calibration_rows = 8;
  int64_t eval_rows = 512;
  // eval.decode: rows that are also evaluated side by side, token by token; 0: none are.
  int64_t decode_rows = 0;
  std::string known_losses;  // eval.known: a folder of losses that runs share; empty: none
  std::string export_to;  // a folder inside the run folder, or an absolute path; empty: no export
  std::string export_dtype;  // empty: the base's
  std::string run_folder;
  std::string device = "auto", dtype = "auto";
  int64_t threads = 0;        // 0: all cores
  std::string resolved_yaml;  // everything above, defaults included
  // Rows of an epoch and, where every entry of a mixture has a limit, of the run. Set when the data
  // are opened (build_run_parts).
  int64_t epoch_rows = 0, max_rows = 0;

  bool needs_teacher() const {
    return train.loss.needs_teacher() ||
           std::ranges::any_of(earlier_stages, [](const EarlierStage& stage) {
             return stage.options.loss.needs_teacher();
           });
  }
  bool is_random() const { return model_path.empty(); }
  bool has_validation() const { return !validation_sources.empty() || validation_fraction > 0; }
  /// Rows an optimizer step reads, and the tokens in them.
  int64_t rows_per_step() const {
    return train.batch_rows * std::max<int64_t>(train.accumulate, 1);
  }
  int64_t tokens_per_step() const { return rows_per_step() * train_rows.seq_len; }
  /// With train.epochs only known once the data are open: is_total_known().
  int64_t total_steps() const;
  bool is_total_known() const { return train.steps > 0 || train.tokens > 0 || epoch_rows > 0; }
};

/// Throws UsageError where the schedule warms up for longer than the run lasts. total_steps() must
/// be known.
void check_warmup(const RunConfig& config);

/// Reads and checks a training config; all problems at once (ConfigError). Relative paths are
/// relative to the working directory.
RunConfig read_run_config(const std::filesystem::path& path,
                          const std::vector<std::string>& overrides);

}  // namespace tigon
