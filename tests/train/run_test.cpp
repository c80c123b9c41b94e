// Whole runs, in this process.
#include <cmath>

#include "eval/perplexity.h"
#include "io/atomic_file.h"
#include "linearize/convert.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/tolerance.h"
#include "train/checkpoint_folder.h"
#include "train/metrics.h"
#include "train/model_checkpoint.h"
#include "train/run_folder.h"
#include "train/run_parts.h"
#include "train/tiny_run.h"

using namespace tigon;
using namespace tigon::testing;
namespace fs = std::filesystem;

namespace {

Json run_json(const fs::path& folder) {
  return read_json_file(folder / "run.json");
}

}  // namespace

TEST_CASE("a run writes everything its folder promises", "[run]") {
  const TinyRun run;
  const TrainOutcome outcome = run_training(run.config({"export.to=export"}), false);
  CHECK(outcome.interrupted_by == 0);
  const fs::path folder = run.run_folder();
  CHECK(read_text_file(folder / "config.yaml") == run.config({"export.to=export"}).resolved_yaml);
  const auto lines = read_metrics(folder / "metrics.jsonl");
  CHECK(lines.size() == 12 + 3);
  for (const char* key : {"step", "tokens", "loss", "lr", "grad_norm", "tokens_per_s", "memory"}) {
    INFO(key);
    CHECK(lines[0].contains(key));
  }
  CHECK(lines.back().contains("val_loss"));
  for (const char* name : {"adapter_model.safetensors", "adapter_config.json", "linearize.json",
                           "optimizer.safetensors", "trainer_state.json"}) {
    INFO(name);
    CHECK(fs::exists(folder / "checkpoints" / "last" / name));
    CHECK(fs::exists(folder / "checkpoints" / "best" / name));
  }
  CHECK(fs::exists(folder / "report.html"));
  CHECK(fs::exists(folder / "export" / "model.safetensors"));

  const Json json = run_json(folder);
  CHECK(json.at("status") == "complete");
  CHECK(json.at("steps") == 12);
  CHECK(json.at("tokens") == 12 * 128);
  CHECK(json.at("parameters").at("trainable") == json.at("parameters").at("lora"));
  for (const char* name :
       {"teacher", "window_only", "own_window", "converted", "trained", "branch_off"}) {
    INFO(name);
    CHECK(std::isfinite(json.at("results").at(name).at("nats_per_token").get<double>()));
  }
  for (const char* key :
       {"versions", "hardware", "wall_seconds", "peak_memory_bytes", "state_bytes"}) {
    INFO(key);
    CHECK(json.contains(key));
  }
  const Json& longest = json.at("state_bytes").back();
  CHECK(longest.at("teacher").get<int64_t>() > longest.at("student").get<int64_t>());
}

TEST_CASE("a run evaluates token by token where it is asked to", "[run]") {
  const TinyRun run;
  const TrainOutcome outcome =
      run_training(run.config({"linearize.state_dtype=bfloat16", "eval.decode=3"}), false);
  const Json& results = outcome.run.at("results");
  CHECK(results.at("decoded").at("tokens") == results.at("trained").at("tokens"));
  CHECK(results.at("decoded").at("nats_per_token").get<double>() ==
        Approx(results.at("trained").at("nats_per_token").get<double>()).epsilon(kRoundedState));
  CHECK(outcome.summary.find("decoded") != std::string::npos);
}

TEST_CASE("the adapter of a run gives the loss the run reports", "[run]") {
  const TinyRun run;
  const RunConfig config = run.config({"train.optimizer.lr=0.03"});
  run_training(config, false);
  const fs::path best = run.run_folder() / "checkpoints" / "best";
  const LoadedModel loaded = load_any_model(config.model_path, at::kFloat, test_device(), best);
  RowOptions options = config.validation_rows;
  options.max_rows = config.eval_rows;
  const auto tokenizer = load_tokenizer(config.model_path);
  const RowSet rows(
      open_token_shard({config.validation_sources[0].paths[0]}, *tokenizer, config.cache_folder, 1),
      options, tokenizer->bos_id().value(), loaded.model.config.vocab_size);
  const double loss =
      evaluate_loss(loaded.model, loaded.stack, rows, 2, true, "check").nats_per_token;
  const Json results = run_json(run.run_folder()).at("results");
  CHECK(results.at("trained").at("nats_per_token").get<double>() == Approx(loss).epsilon(1e-6));
  CHECK(results.at("converted").at("nats_per_token").get<double>() > loss);
}

TEST_CASE("the same config gives the same losses, another seed others", "[run]") {
  const TinyRun run;
  run_training(run.config(), false);
  run_training(run.config({run.in_folder("again")}), false);
  run_training(run.config({run.in_folder("other"), "seed=8"}), false);
  CHECK(lines_without_timing(run.run_folder() / "metrics.jsonl") ==
        lines_without_timing(run.folder() / "again" / "metrics.jsonl"));
  CHECK(step_losses(run.run_folder()) != step_losses(run.folder() / "other"));
}

TEST_CASE("accumulated micro-batches are the bigger batch", "[run]") {
  // Rows with borders: micro-batches differ in their number of predictions.
  const TinyRun run;
  const std::vector<std::string> same = {"lora.dropout=0", "train.optimizer.lr=0.02"};
  const auto losses = [&](const std::string& name, int rows, int accumulate) {
    std::vector<std::string> overrides = same;
    overrides.push_back(run.in_folder(name));
    overrides.push_back(fmt::format("train.batch_rows={}", rows));
    overrides.push_back(fmt::format("train.accumulate={}", accumulate));
    run_training(run.config(overrides), false);
    return step_losses(run.folder() / name);
  };
  const auto whole = losses("whole", 4, 1), halves = losses("halves", 2, 2),
             rows = losses("rows", 1, 4);
  REQUIRE(whole.size() == 12);
  for (size_t i = 0; i < whole.size(); ++i) {
    INFO("step " << i + 1);
    CHECK(halves[i] == Approx(whole[i]).epsilon(kFloat32Op));
    CHECK(rows[i] == Approx(whole[i]).epsilon(kFloat32Op));
  }
}

TEST_CASE("running layers again in the backward pass changes nothing", "[run]") {
  const TinyRun run;
  run_training(run.config(), false);
  run_training(run.config({run.in_folder("again"), "train.memory=smallest"}), false);
  const auto first = step_losses(run.run_folder()), second = step_losses(run.folder() / "again");
  REQUIRE(first.size() == second.size());
  for (size_t i = 0; i < first.size(); ++i)
    CHECK(second[i] == Approx(first[i]).epsilon(kFloat32Op));
}

TEST_CASE("training lowers the loss", "[run]") {
  const TinyRun run;
  run_training(run.config({"train.optimizer.lr=0.03", "train.steps=40"}), false);
  const Json results = run_json(run.run_folder()).at("results");
  CHECK(results.at("trained").at("nats_per_token").get<double>() <
        results.at("converted").at("nats_per_token").get<double>() - 0.1);
}

TEST_CASE("a randomly initialised model is trained and its checkpoint is a model", "[run]") {
  const TinyRun run;
  auto overrides = TinyRun::random_model(run);
  overrides.insert(overrides.end(),
                   {"train.optimizer.lr=0.01", "train.steps=30", "export.to=export"});
  run_training(run.config(overrides), false);
  const auto losses = step_losses(run.run_folder());
  CHECK(losses.front() == Approx(std::log(300)).epsilon(0.05));
  CHECK(losses.back() < losses.front() - 0.5);
  const Json json = run_json(run.run_folder());
  CHECK(json.at("parameters").at("trainable") == json.at("parameters").at("base"));
  for (const char* name : {"checkpoints/best", "export"}) {
    INFO(name);
    const LoadedModel loaded = load_any_model(run.run_folder() / name, at::kFloat, test_device());
    CHECK(loaded.plan.is_teacher());
    CHECK(fs::exists(run.run_folder() / name / "tokenizer.model"));
  }
}

TEST_CASE("a randomly initialised model can take the shape of a folder, and not its weights",
          "[run]") {
  const TinyRun run;
  run_training(run.config({"model.init=random", "lora=null", "train.trainable=all", "train.steps=2",
                           "train.optimizer.lr=1e-9"}),
               false);
  const Json json = run_json(run.run_folder());
  CHECK(json.at("model").at("init") == "random");
  const LoadedModel base = load_any_model(run.folder() / "base", at::kFloat, test_device());
  const LoadedModel drawn =
      load_any_model(run.run_folder() / "checkpoints/best", at::kFloat, test_device());
  CHECK(drawn.model.config.hidden_size == base.model.config.hidden_size);
  CHECK(drawn.model.config.num_layers == base.model.config.num_layers);
  CHECK(drawn.plan == run.config().plan);
  CHECK(!at::allclose(drawn.model.weights.embed_tokens, base.model.weights.embed_tokens));
}

TEST_CASE("all parameters of a linearized model can be trained", "[run]") {
  const TinyRun run;
  run_training(run.config({"train.trainable=all", "lora=null"}), false);
  const Json results = run_json(run.run_folder()).at("results");
  // The teacher is loaded again: the run's own weights have moved.
  CHECK(results.at("teacher") != results.at("trained"));
  CHECK(results.at("converted") != results.at("trained"));
  const LoadedModel loaded =
      load_any_model(run.run_folder() / "checkpoints/best", at::kFloat, test_device());
  CHECK(loaded.plan.recipe == "liger-gla");
}

TEST_CASE("without linearization the base and the trained model are compared", "[run]") {
  const TinyRun run;
  run_training(run.config({"linearize=null", "data.validation=[]", "data.validation_fraction=0.2"}),
               false);
  const Json json = run_json(run.run_folder());
  CHECK(json.at("results").contains("base"));
  CHECK(json.at("results").contains("trained"));
  CHECK_FALSE(json.at("results").contains("teacher"));
}

TEST_CASE("a run without held-out rows ends with its last checkpoint", "[run]") {
  const TinyRun run;
  run_training(run.config({"data.validation=[]", "train.validate_every=0"}), false);
  const Json json = run_json(run.run_folder());
  CHECK(json.at("status") == "complete");
  CHECK(json.at("result").at("checkpoint") == "last");
  CHECK(json.at("results").empty());
  CHECK_FALSE(fs::exists(run.run_folder() / "checkpoints" / "best"));
}

TEST_CASE("training stops early when validations do not improve", "[run]") {
  const TinyRun run;
  // A rate this small changes no parameter: every validation after the first is equal.
  run_training(run.config({"train.optimizer.lr=1e-30", "train.steps=40", "train.validate_every=2",
                           "train.early_stop_patience=3", "lora.dropout=0"}),
               false);
  const Json json = run_json(run.run_folder());
  CHECK(json.at("status") == "complete");
  CHECK(json.at("steps") == 8);
  CHECK(json.at("stopped_early") == true);
  CHECK(json.at("best_validation").at("step") == 2);
  CHECK(json.at("result").at("step") == 2);
  CHECK(step_losses(run.run_folder()).size() == 8);
}

TEST_CASE("every numbered checkpoint that was asked for is kept", "[run]") {
  const TinyRun run;
  run_training(run.config({"train.checkpoint_every=5"}), false);
  const CheckpointFolder checkpoints(run.run_folder() / "checkpoints");
  for (const int64_t step : {5, 10, 12}) CHECK(fs::exists(checkpoints.step_path(step)));
  CHECK(checkpoints.step_of("last") == 12);
}

TEST_CASE("a loss that is not finite ends the run and is never saved", "[run]") {
  const TinyRun run;
  const auto config =
      run.config({"train.optimizer={lr: 1e38, clip_norm: 0}", "train.schedule=null"});
  check_refused([&] { run_training(config, false); }, "nothing was saved after step 0");
  check_refused([&] { run_training(config, true); }, "step ");
  CHECK_FALSE(fs::exists(run.run_folder() / "checkpoints" / "last"));
  const Json json = run_json(run.run_folder());
  CHECK(json.at("status") == "failed");
  CHECK(json.at("error").get<std::string>().find("step ") != std::string::npos);
}

TEST_CASE("a run folder in use is refused without --resume", "[run]") {
  const TinyRun run;
  run_training(run.config(), false);
  const auto before = lines_without_timing(run.run_folder() / "metrics.jsonl");
  check_refused([&] { run_training(run.config(), false); }, "--resume");
  check_refused([&] { run_training(run.config({"lora.rank=2"}), true); }, "lora.rank: 4 → 2");
  const TrainOutcome outcome = run_training(run.config(), true);
  CHECK(outcome.summary.find("complete already") != std::string::npos);
  CHECK(lines_without_timing(run.run_folder() / "metrics.jsonl") == before);

  fs::create_directory(run.folder() / "foreign");
  write_file_atomically(run.folder() / "foreign" / "notes.txt", "mine");
  check_refused([&] { run_training(run.config({run.in_folder("foreign")}), true); },
                "holds no run");
}

TEST_CASE("a complete run can be made longer", "[run]") {
  const TinyRun run;
  const std::string constant = "train.schedule={kind: constant}";
  run_training(run.config({constant, "train.steps=8"}), false);
  run_training(run.config({constant}), true);
  run_training(run.config({constant, run.in_folder("whole")}), false);
  CHECK(lines_without_timing(run.run_folder() / "metrics.jsonl") ==
        lines_without_timing(run.folder() / "whole" / "metrics.jsonl"));
}

TEST_CASE("new-only training is refused for recipes that add no parameters", "[run]") {
  const TinyRun run;
  check_refused(
      [&] {
        run_training(run.config({"train.trainable=new", "lora=null"}), false);
      },
      "liger-gla");
  CHECK_FALSE(fs::exists(run.run_folder()));
}

TEST_CASE("a dry run says what a run would take and writes no run folder", "[run]") {
  const TinyRun run;
  const std::string text = dry_run(run.config());
  INFO(text);
  for (const char* expected : {"base", "LoRA", "trainable", "optimizer", "activations", "12",
                               "1,536", "tokens/s", "training time"}) {
    INFO(expected);
    CHECK(text.find(expected) != std::string::npos);
  }
  CHECK_FALSE(fs::exists(run.run_folder()));
}

TEST_CASE("the best checkpoint is not chosen on the rows it is judged by", "[run]") {
  const TinyRun run;
  RunConfig config = run.config();
  const RunParts parts = build_run_parts(config);
  REQUIRE(parts.eval_rows->size() == 4);
  REQUIRE(parts.validation_rows->size() == 4);
  for (int64_t i = 0; i < 4; ++i) {
    for (int64_t j = 0; j < 4; ++j) {
      CHECK(parts.eval_rows->row(i).tokens != parts.validation_rows->row(j).tokens);
    }
  }
}

TEST_CASE("a run of the recipe tigon learns from its teacher", "[run]") {
  const TinyRun run;
  const std::vector<std::string> overrides = {
      "linearize={recipe: tigon, window_keys: 8}", "train.loss={cross_entropy: 0.5, teacher: 0.5}",
      "train.optimizer.new={lr: 1e-2, weight_decay: 0}", "lora.dropout=0"};
  const TrainOutcome outcome = run_training(run.config(overrides), false);
  const Json& results = outcome.run.at("results");
  CHECK(outcome.run.at("parameters").at("new").get<int64_t>() > 0);
  const auto loss = [&](const std::string& name) {
    return results.at(name).at("nats_per_token").get<double>();
  };
  CHECK(loss("trained") < loss("converted"));
  CHECK(loss("converted") != loss("branch_off"));
  const std::vector<Json> lines = read_metrics(run.run_folder() / "metrics.jsonl");
  for (const Json& line : lines) {
    if (!line.contains("loss")) continue;
    CHECK(line.at("cross_entropy").get<double>() > 0);
    CHECK(line.at("cross_entropy") != line.at("loss"));
  }
  // What was calibrated and trained comes back from the checkpoint.
  RunConfig config = run.config(overrides);
  RunParts parts = build_run_parts(config);
  const std::string result = outcome.run.at("result").at("checkpoint");
  restore_trained(run.run_folder() / "checkpoints" / result, config, parts);
  CHECK(evaluate_loss(parts.loaded.model, parts.loaded.stack, *parts.eval_rows, 2, true, "test")
            .nats_per_token == Approx(loss("trained")).epsilon(1e-6));
  CHECK(evaluate_loss(parts.loaded.model, parts.converted, *parts.eval_rows, 2, false, "test")
            .nats_per_token == Approx(loss("converted")).epsilon(1e-6));
}

TEST_CASE("a loss of two parts is the mean of the two", "[run]") {
  const TinyRun run;
  const auto first_loss = [&](const std::string& loss, const std::string& name) {
    run_training(run.config({"linearize={recipe: tigon, window_keys: 8}", "train.loss=" + loss,
                             "lora.dropout=0", "train.steps=2", run.in_folder(name)}),
                 false);
    return step_losses(run.folder() / name).front();
  };
  const double targets = first_loss("{cross_entropy: 1, teacher: 0}", "targets");
  const double teacher = first_loss("{cross_entropy: 0, teacher: 1}", "teacher");
  CHECK(targets != Approx(teacher));
  CHECK(first_loss("{cross_entropy: 0.25, teacher: 0.75}", "both") ==
        Approx(0.25 * targets + 0.75 * teacher).epsilon(1e-5));
}

TEST_CASE("a loss that cannot reach what is to be trained is refused", "[run]") {
  const TinyRun run;
  check_refused(
      [&] {
        run_training(run.config({"linearize={recipe: tigon, window_keys: 8}",
                                 "train.loss={cross_entropy: 0, attention: 1}"}),
                     false);
      },
      "the loss does not depend on trainable parameters");
}

TEST_CASE("a run spends its budget of bytes on windows before it trains", "[run]") {
  const TinyRun run;
  const std::vector<std::string> overrides = {
      "linearize={recipe: window, window_keys: 4, state_bytes: 20K}"};
  const TrainOutcome outcome = run_training(run.config(overrides), false);
  const Json& budget = outcome.run.at("state_budget");
  CHECK(budget.at("allowed_bytes") == 20000);
  CHECK(budget.at("after").at("state_bytes").get<int64_t>() <= 20000);
  CHECK(outcome.run.at("plan").at("layer_windows") == budget.at("layer_windows"));
  CHECK(outcome.run.at("state_bytes").back().at("student") == budget.at("after").at("state_bytes"));
  check_refused<UsageError>(
      [&] {
        run_training(
            run.config({"linearize={recipe: window, state_bytes: 1}", run.in_folder("small")}),
            false);
      },
      "linearize.state_bytes: expected at least the");
}
