// Runs with more than one stage, in this process.
#include <ATen/ATen.h>

#include "io/safetensors.h"
#include "model/tensor_io.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "train/tiny_run.h"
#include "train/train.h"

using namespace tigon;
using namespace tigon::testing;

TEST_CASE("attention transfer moves what the recipe adds, before training", "[run]") {
  const TinyRun run;
  const std::vector<std::string> overrides = {
      "linearize={recipe: tigon, window_keys: 8}", "lora.dropout=0",
      "transfer={steps: 10, batch_rows: 4, optimizer: {lr: 1e-2, weight_decay: 0}}"};
  const TrainOutcome outcome = run_training(run.config(overrides), false);
  const Json& stages = outcome.run.at("stages");
  REQUIRE(stages.size() == 1);
  CHECK(stages[0].at("name") == "transfer");
  CHECK(stages[0].at("steps") == 10);
  CHECK(outcome.run.at("steps") == 12);
  const std::vector<double> errors = step_losses(run.run_folder() / "transfer");
  REQUIRE(errors.size() == 10);
  CHECK(errors.back() < 0.9 * errors.front());
  CHECK(step_losses(run.run_folder()).size() == 12);
  check_refused<UsageError>(
      [&] {
        run_training(run.config({"transfer={steps: 2}", "lora.dropout=0", run.in_folder("none")}),
                     false);
      },
      "expected a recipe that adds parameters, found liger-gla");
}

TEST_CASE("a run has the stages of its list, each with a section of its own", "[run]") {
  const TinyRun run;
  const TrainOutcome outcome = run_training(
      run.config({"linearize={recipe: tigon, window_keys: 8}", "lora.dropout=0",
                  "stages=[calibrate, transfer, warm, settle, train]", "transfer.steps=2",
                  "warm={trainable: new, steps: 3, loss: {teacher: 1, cross_entropy: 0}}",
                  "settle={steps: 4, optimizer: {lr: 1e-3}}"}),
      false);
  std::vector<std::string> names;
  for (const Json& stage : outcome.run.at("stages")) names.push_back(stage.at("name"));
  CHECK(names == std::vector<std::string>{"transfer", "warm", "settle"});
  CHECK(step_losses(run.run_folder() / "warm").size() == 3);
  CHECK(step_losses(run.run_folder() / "settle").size() == 4);
  CHECK(step_losses(run.run_folder()).size() == 12);
  // `warm` left the adapters as they were, zero; `settle` moved them.
  const auto lora_b_norm = [&](const std::string& stage) {
    const SafetensorsFile file(run.run_folder() / stage /
                               "checkpoints/last/adapter_model.safetensors");
    double sum = 0;
    for (const auto& [name, view] : file.tensors()) {
      if (name.find("lora_B") != std::string::npos)
        sum += to_tensor(view, at::kCPU).norm().item<double>();
    }
    return sum;
  };
  CHECK(lora_b_norm("warm") == 0);
  CHECK(lora_b_norm("settle") > 0);
}
