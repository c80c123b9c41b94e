#include "train/config.h"

#include "io/atomic_file.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "train/run_folder.h"
#include "train/run_parts.h"
#include "train/tiny_run.h"

using namespace tigon;
using namespace tigon::testing;

TEST_CASE("a training config is read whole", "[config]") {
  const TinyRun run;
  const RunConfig config = run.config();
  CHECK(config.plan.recipe == "liger-gla");
  CHECK(config.plan.window_keys == 8);
  CHECK(config.lora.targets == std::vector<std::string>{"q_proj", "v_proj"});
  CHECK(config.train_rows.borders == "documents");
  CHECK(config.train_rows.seed == 7);
  CHECK(config.validation_rows.order == "file");
  CHECK(config.train.schedule.kind == "cosine");
  CHECK(config.train.optimizer.lr == 3e-3);
  CHECK(config.train.seed == 7);
  CHECK(config.tokens_per_step() == 2 * 2 * 32);
  CHECK(config.total_steps() == 12);
}

TEST_CASE("tokens are rounded up to whole steps", "[config]") {
  const TinyRun run;
  const RunConfig config = run.config({"train.steps=null", "train.tokens=1000"});
  CHECK(config.total_steps() == 8);  // 1000 / 128 = 7.8
}

TEST_CASE("with train.accumulate auto, batch_rows are a step's rows", "[config]") {
  const TinyRun run;
  RunConfig config = run.config({"train.accumulate=auto", "train.batch_rows=4"});
  CHECK(config.rows_per_step() == 4);
  CHECK(config.resolved_yaml.find("accumulate: auto") != std::string::npos);
  build_run_parts(config);  // the CPU takes them all at once
  CHECK(config.train.batch_rows == 4);
  CHECK(config.train.accumulate == 1);
  check_refused([&] { run.config({"train.accumulate=many"}); }, "train.accumulate");
}

TEST_CASE("train.memory says what is kept for the backward pass", "[config]") {
  const TinyRun run;
  CHECK(run.config().train.kept == Kept::kEverything);
  CHECK(run.config({"train.memory=balanced"}).train.kept == Kept::kAllButMlp);
  CHECK(run.config({"train.memory=smallest"}).train.kept == Kept::kLayerInputs);
  check_refused([&] { run.config({"train.memory=tiny"}); }, "train.memory");
}

TEST_CASE("the resolved config reads back as itself", "[config]") {
  const TinyRun run;
  for (const auto& overrides : {std::vector<std::string>{}, TinyRun::random_model(run)}) {
    const RunConfig config = run.config(overrides);
    write_file_atomically(run.folder() / "resolved.yaml", config.resolved_yaml);
    const RunConfig again = read_run_config(run.folder() / "resolved.yaml", {});
    CHECK(again.resolved_yaml == config.resolved_yaml);
    CHECK(again.total_steps() == config.total_steps());
  }
}

TEST_CASE("all problems of a training config come at once, with their lines", "[config]") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "bad.yaml", R"(model: {path: no-such-model}
lora: {rnk: 4}
data:
  train: [no-such-corpus.txt]
  seq_len: 1
train:
  steps: 10
  tokens: 10M
  early_stop_patience: 2
  optimizer: {lr: fast}
  schedule: {kind: cosinus}
run: {folder: x}
)");
  std::string message;
  try {
    read_run_config(folder / "bad.yaml", {});
  } catch (const ConfigError& error) {
    message = error.what();
  }
  INFO(message);
  for (const char* expected :
       {"no-such-model", "lora.rnk", "lora.rank", "no-such-corpus.txt", "line 4", "data.seq_len",
        "exactly one of steps, tokens and epochs, found steps, tokens", "train.early_stop_patience",
        "line 10", "train.optimizer.lr", "\"fast\"", "line 11", "train.schedule.kind"}) {
    INFO(expected);
    CHECK(message.find(expected) != std::string::npos);
  }
}

TEST_CASE("every shipped training config is read", "[config]") {
  const TinyRun run;
  const std::string base = (run.folder() / "base").string();
  int num_configs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(
           std::filesystem::path(TIGON_SOURCE_FOLDER) / "configs/train")) {
    INFO(entry.path());
    const std::string text = read_text_file(entry.path());
    CHECK(text.starts_with("# "));
    CHECK(text.find("train configs/train/" + entry.path().filename().string()) !=
          std::string::npos);
    // The user's own files are stood in for.
    const bool is_random = text.find("init: random") != std::string::npos;
    std::vector<std::string> overrides = {(is_random ? "model.tokenizer=" : "model.path=") + base,
                                          "data.train=" + (run.folder() / "train.txt").string()};
    if (text.find("validation: [") != std::string::npos) {
      overrides.push_back("data.validation=" + (run.folder() / "validation.txt").string());
    }
    if (text.find("format: alpaca") != std::string::npos) {
      overrides[1] = "data.train=" + run.folder().write("train.jsonl", "{}").string();
    }
    RunConfig config = read_run_config(entry.path(), overrides);
    config.epoch_rows = 1000;
    CHECK(config.total_steps() > 0);
    ++num_configs;
  }
  CHECK(num_configs >= 6);
}

TEST_CASE("stages that make no sense are refused", "[config]") {
  const TinyRun run;
  const auto refused = [&](std::vector<std::string> overrides, const std::string& text) {
    check_refused([&] { run.config(overrides); }, text);
  };
  refused({"stages=[calibrate]"}, "stages: expected train, once, as the last stage");
  refused({"stages=[train, train]"}, "stages: expected train, once, as the last stage");
  refused({"stages=[warm, calibrate, train]", "warm={steps: 1}"}, "calibrate as the first stage");
  refused({"stages=[warm, warm, train]", "warm={steps: 1}"}, "two stages warm");
  refused({"stages=[data, train]"}, "data is another section's name");
  refused({"stages=[../warm, train]"}, "expected letters, digits, - and _, found '../warm'");
  refused({"stages=[train]", "transfer={steps: 1}"}, "there is no such stage in `stages`");
  refused({"stages=[warm, train]"}, "expected exactly one of steps, tokens and epochs, found none");
  refused({"stages=[warm, train]", "warm={steps: 1, trainable: all}"}, "one of new, lora");
  CHECK(run.config({"stages=[train]"}).calibration_rows == 0);
  CHECK(run.config().calibration_rows == 8);
}

TEST_CASE("combinations that make no sense are refused", "[config]") {
  const TinyRun run;
  const auto refused = [&](std::vector<std::string> overrides, const std::string& text) {
    check_refused([&] { run.config(overrides); }, text);
  };
  refused({"train.trainable=all"}, "only used with train.trainable: lora");
  refused({"train.validate_every=0", "train.schedule={kind: plateau}"},
          "expected validate_every above 0");
  refused({"data.validation_fraction=0.1"}, "one of validation and validation_fraction");
  refused({"data.validation=[]"}, "data.validation or data.validation_fraction");
  refused({"train.schedule.warmup_steps=13"}, "at most the run's 12 steps, found 13");
  refused({"train.steps=0"}, "train.steps");
  refused({"train.epochs=1"}, "exactly one of steps, tokens and epochs, found steps, epochs");
  refused({"train.steps=null"}, "exactly one of steps, tokens and epochs, found none");
  const std::string text = (run.folder() / "train.txt").string();
  refused({"data.train=[{path: " + text + ", weight: 1}]", "data.validation=null",
           "data.validation_fraction=0.1"},
          "expected data.validation beside entries with weights");
  refused({"data.validation=[{path: " + text + ", weight: 1}]"}, "data.validation[0].weight");
  refused({"data.train=" + (run.folder() / "*.nothing").string()}, "found none that match");
  refused({"run=null"}, "run.folder");

  auto random = TinyRun::random_model(run);
  random.push_back("train.trainable=lora");
  random.push_back("model.num_kv_heads=3");
  refused(random, "expected all for a randomly initialised model");
  refused(random, "3 does not divide num_heads 4");
  random.push_back("model.tokenizer=no-tokenizer");
  refused(random, "no-tokenizer");
}

TEST_CASE("only keys that leave the past alone may change on resuming", "[config]") {
  const TinyRun run;
  const std::string constant = "train.schedule={kind: constant}";
  const std::string before = run.config({constant}).resolved_yaml;
  const auto changes = [&](std::vector<std::string> overrides) {
    overrides.push_back(constant);
    return changes_that_forbid_resuming(before, run.config(overrides).resolved_yaml);
  };
  CHECK(changes({}).empty());
  CHECK(changes({"train.steps=20", "eval.rows=2", "export.to=out", "threads=2",
                 "train.checkpoint_every=1", "run.folder=elsewhere"})
            .empty());
  const auto found = changes({"train.optimizer.lr=1", "seed=8"});
  REQUIRE(found.size() == 3);  // data.seed follows the seed
  CHECK(found[0].find("data.seed") == 0);
  CHECK(found[2].find("train.optimizer.lr") == 0);

  // The cosine's rates depend on where it ends.
  const auto longer = changes_that_forbid_resuming(run.config().resolved_yaml,
                                                   run.config({"train.steps=20"}).resolved_yaml);
  CHECK(longer == std::vector<std::string>{"train.steps: 12 → 20"});
}

TEST_CASE("a config says what the loss, the new parameters and the calibration are", "[config]") {
  const TinyRun run;
  const RunConfig usual = run.config();
  CHECK(usual.train.loss.cross_entropy == 1);
  CHECK(usual.train.loss.teacher == 0);
  CHECK(usual.train.optimizer.new_lr == usual.train.optimizer.lr);
  CHECK(usual.calibration_rows == 8);
  const RunConfig config = run.config({"train.loss={cross_entropy: 0.25, teacher: 0.75}",
                                       "train.optimizer.new={lr: 0.5}",
                                       "train.optimizer.weight_decay=0.2", "calibrate.rows=3"});
  CHECK(config.train.loss.cross_entropy == 0.25);
  CHECK(config.train.loss.teacher == 0.75);
  CHECK(config.train.optimizer.new_lr == 0.5);
  CHECK(config.train.optimizer.new_weight_decay == 0.2);
  CHECK(config.calibration_rows == 3);
  const auto refused = [&](const std::vector<std::string>& overrides, const std::string& text) {
    check_refused<ConfigError>([&] { run.config(overrides); }, text);
  };
  refused({"train.loss={cross_entropy: 0}"}, "expected a weight above 0");
  refused({"train.loss.teacher=-1"}, "train.loss.teacher");
  refused({"train.optimizer.new.lr=0"}, "train.optimizer.new.lr");
  std::vector<std::string> random = TinyRun::random_model(run);
  random.push_back("train.loss.teacher=0.5");
  refused(random, "which has no teacher");
}
