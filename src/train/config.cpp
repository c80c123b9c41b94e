#include "train/config.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <set>

namespace tigon {
namespace {

/// Records a problem for a path that is not there.
void check_exists(ConfigReader& reader, const std::string& key, const std::string& path) {
  if (!path.empty() && !std::filesystem::exists(path)) {
    reader.problem(key,
                   fmt::format("expected an existing file or folder, found nothing at '{}'", path));
  }
}

void check_divides(ConfigReader& reader, const std::string& key, int64_t part, int64_t whole,
                   const std::string& whole_name) {
  if (part > 0 && whole % part != 0) {
    reader.problem(key, fmt::format("{} does not divide {} {}", part, whole_name, whole));
  }
}

Kept read_memory(ConfigReader& reader) {
  return kept_for_memory(
      reader.choice("memory", {"speed", "balanced", "smallest"}, std::string("speed")));
}

ModelConfig read_random_model(ConfigReader& reader) {
  ModelConfig model;
  model.model_type = "llama";
  model.vocab_size = reader.integer("vocab_size", between(1, 1 << 24));
  model.hidden_size = reader.integer("hidden_size", between(1, 1 << 20));
  model.intermediate_size = reader.integer("intermediate_size", between(1, 1 << 24));
  model.num_layers = reader.integer("num_layers", between(1, 10000));
  model.num_heads = reader.integer("num_heads", between(1, 1 << 16));
  model.num_kv_heads = reader.integer("num_kv_heads", model.num_heads, between(1, 1 << 16));
  const int64_t per_head =
      std::max<int64_t>(model.hidden_size / std::max<int64_t>(model.num_heads, 1), 1);
  model.head_dim = reader.integer("head_dim", per_head, between(1, 1 << 16));
  model.max_position_embeddings = reader.integer("max_position_embeddings", 2048, at_least(1));
  model.rope.theta = reader.number("rope_theta", 10000.0, above(0));
  model.rms_norm_eps = reader.number("rms_norm_eps", 1e-5, above(0));
  model.initializer_range = reader.number("initializer_range", 0.02, above(0));
  model.tie_word_embeddings = reader.flag("tie_word_embeddings", false);
  model.dtype = "float32";
  if (!reader.has("head_dim")) {
    check_divides(reader, "num_heads", model.num_heads, model.hidden_size, "hidden_size");
  }
  check_divides(reader, "num_kv_heads", model.num_kv_heads, model.num_heads, "num_heads");
  if (model.head_dim % 2 != 0) {
    reader.problem("head_dim", fmt::format("expected an even number, found {}", model.head_dim));
  }
  return model;
}

/// The shape and tokenizer of a folder, and nothing of its weights.
void read_random_model_like(ConfigReader& reader, RunConfig& config) {
  config.tokenizer_path = reader.text("path");
  try {
    config.random_model = read_model_config(config.tokenizer_path);
    config.random_model.dtype = "float32";
    config.random_model.linearize = nullptr;
    if (config.random_model.model_type != "llama") {
      reader.problem("path", fmt::format("expected a folder of the family llama with init: random, "
                                         "found {}",
                                         config.random_model.model_type));
    }
  } catch (const Error& error) {
    reader.problem("path", error.what());
  }
}

void read_model(ConfigReader reader, RunConfig& config) {
  const std::string init =
      reader.choice("init", {"pretrained", "random"}, std::string("pretrained"));
  if (init == "pretrained") {
    config.model_path = reader.text("path");
    check_exists(reader, "path", config.model_path);
    return;
  }
  if (reader.has("path")) return read_random_model_like(reader, config);
  config.random_model = read_random_model(reader);
  config.tokenizer_path = reader.text("tokenizer");
  check_exists(reader, "tokenizer", config.tokenizer_path);
}

void read_data(ConfigReader reader, RunConfig& config) {
  const DocumentOptions documents = read_document_options(reader);
  config.train_sources = read_data_sources(reader, "train", documents, /*may_be_weighted=*/true);
  if (config.train_sources.empty()) reader.problem("train", "expected at least one file");
  config.validation_sources =
      read_data_sources(reader, "validation", documents, /*may_be_weighted=*/false);
  config.validation_fraction = reader.number("validation_fraction", 0.0, between(0, 0.5));
  if (!config.validation_sources.empty() && config.validation_fraction > 0) {
    reader.problem("validation_fraction", "expected one of validation and validation_fraction");
  }
  if (is_weighted(config.train_sources) && config.validation_fraction > 0) {
    reader.problem("validation_fraction",
                   "expected data.validation beside entries with weights, found a fraction");
  }
  config.cache_folder = reader.text("cache", std::string());
  RowOptions defaults;
  defaults.seed = config.train.seed;
  config.train_rows = read_row_options(reader, defaults);
  config.validation_rows = config.train_rows;
  config.validation_rows.order = "file";
  config.validation_rows.max_tokens = 0;
  config.validation_rows.max_rows = 0;
}

OptimizerOptions read_optimizer(ConfigReader reader) {
  OptimizerOptions options;
  options.lr = reader.number("lr", options.lr, above(0));
  options.beta1 = reader.number("beta1", options.beta1, between(0, 0.99999));
  options.beta2 = reader.number("beta2", options.beta2, between(0, 0.9999999));
  options.eps = reader.number("eps", options.eps, above(0));
  options.weight_decay = reader.number("weight_decay", options.weight_decay, at_least(0));
  options.clip_norm = reader.number("clip_norm", options.clip_norm, at_least(0));
  options.new_lr = options.lr;
  options.new_weight_decay = options.weight_decay;
  if (reader.has("new")) {
    ConfigReader added = reader.section("new");
    options.new_lr = added.number("lr", options.lr, above(0));
    options.new_weight_decay = added.number("weight_decay", options.weight_decay, at_least(0));
  }
  return options;
}

LossOptions read_loss(ConfigReader reader, const LossOptions& usual, const RunConfig& config) {
  LossOptions options;
  options.cross_entropy = reader.number("cross_entropy", usual.cross_entropy, at_least(0));
  options.teacher = reader.number("teacher", usual.teacher, at_least(0));
  options.attention = reader.number("attention", usual.attention, at_least(0));
  if (!options.has_logits() && options.attention == 0) {
    reader.problem("cross_entropy", "expected a weight above 0 for some part of the loss");
  }
  if (config.is_random()) {
    for (const char* key : {"teacher", "attention"}) {
      const double weight = key == std::string("teacher") ? options.teacher : options.attention;
      if (weight > 0) {
        reader.problem(key, "expected 0 for a randomly initialised model, which has no teacher");
      }
    }
  }
  return options;
}

ScheduleOptions read_schedule(ConfigReader reader) {
  ScheduleOptions options;
  options.kind = reader.choice("kind", {"constant", "cosine", "plateau"}, options.kind);
  options.warmup_steps = reader.integer("warmup_steps", options.warmup_steps, at_least(0));
  if (options.kind == "cosine") {
    options.final_ratio = reader.number("final_ratio", options.final_ratio, between(0, 1));
  }
  if (options.kind == "plateau") {
    options.factor = reader.number("factor", options.factor, between(1e-6, 0.999999));
    options.patience = reader.integer("patience", options.patience, at_least(0));
    options.threshold = reader.number("threshold", options.threshold, between(0, 1));
    options.min_lr = reader.number("min_lr", options.min_lr, at_least(0));
  }
  return options;
}

/// How long a run is.
void read_budget(ConfigReader& reader, TrainOptions& train) {
  std::vector<std::string> given;
  for (const char* key : {"steps", "tokens", "epochs"}) {
    if (reader.has(key)) given.emplace_back(key);
  }
  if (reader.has("steps")) train.steps = reader.integer("steps", at_least(1));
  if (reader.has("tokens")) train.tokens = reader.integer("tokens", at_least(1));
  if (reader.has("epochs")) train.epochs = reader.number("epochs", above(0));
  if (given.size() == 1) return;
  reader.problem(given.empty() ? "steps" : given.back(),
                 fmt::format("expected exactly one of steps, tokens and epochs, found {}",
                             given.empty() ? "none" : fmt::format("{}", fmt::join(given, ", "))));
}

/// The keys of every stage. `usual` has the defaults.
TrainOptions read_stage(ConfigReader& reader, const TrainOptions& usual, const RunConfig& config) {
  TrainOptions stage = usual;
  read_budget(reader, stage);
  stage.batch_rows = reader.integer("batch_rows", stage.batch_rows, between(1, 1 << 20));
  stage.loss = read_loss(reader.section("loss"), usual.loss, config);
  stage.optimizer = read_optimizer(reader.section("optimizer"));
  stage.schedule = read_schedule(reader.section("schedule"));
  stage.validate_every = reader.integer("validate_every", stage.validate_every, at_least(0));
  stage.validation_rows = reader.integer("validation_rows", stage.validation_rows, at_least(1));
  stage.early_stop_patience =
      reader.integer("early_stop_patience", stage.early_stop_patience, at_least(0));
  stage.checkpoint_every = reader.integer("checkpoint_every", stage.checkpoint_every, at_least(0));
  stage.kept = read_memory(reader);
  const auto needs_validation = [&](const std::string& key, bool is_used) {
    if (!is_used) return;
    if (!config.has_validation()) {
      reader.problem(key, "expected data.validation or data.validation_fraction, found neither");
    } else if (stage.validate_every == 0) {
      reader.problem(key, "expected validate_every above 0, found 0");
    }
  };
  needs_validation("early_stop_patience", stage.early_stop_patience > 0);
  needs_validation("schedule", stage.schedule.kind == "plateau");
  if (stage.validate_every > 0 && !config.has_validation()) {
    reader.problem("validate_every",
                   "expected data.validation or data.validation_fraction, found neither");
  }
  return stage;
}

void read_train(ConfigReader reader, RunConfig& config) {
  TrainOptions usual = config.train;
  const std::string trainable = config.is_random() ? "all" : "lora";
  usual.trainable = reader.choice("trainable", {"lora", "all", "new"}, trainable);
  if (config.is_random() && usual.trainable != "all") {
    reader.problem(
        "trainable",
        fmt::format("expected all for a randomly initialised model, found {}", usual.trainable));
  }
  // With auto, batch_rows are the rows of a whole step.
  if (reader.is_scalar("accumulate") && reader.text("accumulate") == "auto") {
    usual.accumulate = 0;
  } else {
    usual.accumulate = reader.integer("accumulate", usual.accumulate, between(1, 1 << 20));
  }
  config.train = read_stage(reader, usual, config);
}

/// A stage before `train`. `transfer` is usually attention transfer: the recipe's own parameters
/// learn what the teacher's attention gives.
EarlierStage read_earlier_stage(const std::string& name, ConfigReader reader,
                                const RunConfig& config) {
  const bool is_transfer = name == "transfer";
  TrainOptions usual;
  usual.seed = config.train.seed;
  usual.trainable = config.train.trainable;
  if (is_transfer) usual.loss = {.cross_entropy = 0, .teacher = 0, .attention = 1000};
  const std::string& all = config.train.trainable;
  const std::string trainable =
      reader.choice("trainable", {"new", all}, is_transfer ? std::string("new") : all);
  usual.accumulate = reader.integer("accumulate", 1, between(1, 1 << 20));
  return {name, read_stage(reader, usual, config), trainable == "new"};
}

/// `stages`: the names of the run's stages in their order. Each is a section of the file.
std::vector<std::string> read_stage_names(ConfigReader& root) {
  std::vector<std::string> usual = {"calibrate", "train"};
  if (root.has("transfer")) usual.insert(usual.begin() + 1, "transfer");
  const std::vector<std::string> names = root.texts("stages", usual);
  if (names.empty() || names.back() != "train" || std::ranges::count(names, "train") > 1) {
    root.problem("stages", "expected train, once, as the last stage");
    return usual;
  }
  const std::set<std::string> taken = {"model",   "linearize",   "data",  "lora",   "eval",
                                       "export",  "checkpoints", "run",   "device", "dtype",
                                       "threads", "seed",        "stages"};
  std::set<std::string> seen;
  for (const std::string& name : names) {
    if (!seen.insert(name).second) root.problem("stages", "two stages " + name);
    if (taken.contains(name)) root.problem("stages", name + " is another section's name");
    const bool is_name = std::ranges::all_of(name, [](unsigned char letter) {
      return std::isalnum(letter) || letter == '-' || letter == '_';
    });
    if (!is_name || name.empty()) {
      root.problem("stages", fmt::format("expected letters, digits, - and _, found '{}'", name));
    }
  }
  const auto calibrate = std::ranges::find(names, "calibrate");
  if (calibrate != names.end() && calibrate != names.begin()) {
    root.problem("stages", "expected calibrate as the first stage: training comes after it");
  }
  for (const char* name : {"calibrate", "transfer"}) {
    if (root.has(name) && !seen.contains(name)) {
      root.problem(name, "there is no such stage in `stages`");
    }
  }
  return names;
}

/// The stages and what trains in them.
void read_stages(ConfigReader& root, RunConfig& config) {
  const std::vector<std::string> names = read_stage_names(root);
  read_train(root.section("train"), config);
  const bool calibrates = names.front() == "calibrate";
  const int64_t usual_rows = calibrates ? config.calibration_rows : 0;
  config.calibration_rows =
      root.section("calibrate").integer("rows", usual_rows, between(0, 1 << 16));
  for (const std::string& name : names) {
    if (name == "calibrate" || name == "train") continue;
    config.earlier_stages.push_back(read_earlier_stage(name, root.section(name), config));
  }
}

std::string warmup_problem(const RunConfig& config) {
  const int64_t warmup = config.train.schedule.warmup_steps;
  if (warmup <= config.total_steps()) return {};
  return fmt::format("expected at most the run's {} steps, found {}", config.total_steps(), warmup);
}

}  // namespace

int64_t RunConfig::total_steps() const {
  if (train.steps > 0) return train.steps;
  if (train.tokens > 0) return (train.tokens + tokens_per_step() - 1) / tokens_per_step();
  const double rows = train.epochs * static_cast<double>(epoch_rows);
  const auto steps = static_cast<int64_t>(std::ceil(rows / static_cast<double>(rows_per_step())));
  // Where the data end with the epoch the last step must be whole.
  return max_rows > 0 ? std::min(steps, max_rows / rows_per_step()) : steps;
}

Kept kept_for_memory(const std::string& memory) {
  if (memory == "smallest") return Kept::kLayerInputs;
  return memory == "balanced" ? Kept::kAllButMlp : Kept::kEverything;
}

void check_warmup(const RunConfig& config) {
  const std::string problem = warmup_problem(config);
  if (!problem.empty()) throw UsageError("train.schedule.warmup_steps: " + problem);
}

RunConfig read_run_config(const std::filesystem::path& path,
                          const std::vector<std::string>& overrides) {
  ConfigReader root = ConfigReader::from_file(path, overrides);
  RunConfig config;
  config.train.seed = static_cast<uint64_t>(root.integer("seed", 0, at_least(0)));
  read_model(root.section("model"), config);
  if (root.has("linearize")) {
    ConfigReader linearize = root.section("linearize");
    config.plan = read_plan(linearize);
  }
  read_data(root.section("data"), config);
  read_stages(root, config);
  if (config.train.trainable == "lora") {
    ConfigReader lora = root.section("lora");
    config.lora = read_lora_options(lora);
  } else if (root.has("lora")) {
    root.problem("lora", fmt::format("only used with train.trainable: lora, found {}",
                                     config.train.trainable));
    ConfigReader lora = root.section("lora");
    read_lora_options(lora);
  }
  ConfigReader eval = root.section("eval");
  config.eval_rows = eval.integer("rows", config.eval_rows, at_least(1));
  config.decode_rows = eval.integer("decode", config.decode_rows, at_least(0));
  config.known_losses = eval.text("known", std::string());
  ConfigReader output = root.section("export");
  config.export_to = output.text("to", std::string());
  config.export_dtype =
      output.choice("dtype", {"base", "float32", "bfloat16"}, std::string("base"));
  if (config.export_dtype == "base") config.export_dtype.clear();
  config.run_folder = root.section("run").text("folder");
  config.device = root.text("device", config.device);
  config.dtype = root.choice("dtype", {"auto", "float32", "bfloat16"}, config.dtype);
  config.threads = root.integer("threads", config.threads, between(0, 4096));
  if (config.is_total_known()) {
    const std::string problem = warmup_problem(config);
    if (!problem.empty())
      root.section("train").section("schedule").problem("warmup_steps", problem);
  }
  root.finish();
  config.resolved_yaml = root.resolved_yaml();
  return config;
}

}  // namespace tigon
