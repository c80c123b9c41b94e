// A sweep spelled out as runs.
#include "support/refusal.h"
#include "sweep/run_names.h"
#include "sweep/tiny_sweep.h"

using namespace tigon;
using namespace tigon::testing;

TEST_CASE("runs are every combination, named by what varies", "[sweep]") {
  const TinySweep sweep(R"(grid:
  train.optimizer.lr: [1e-3, 3e-3]
  lora.targets: [[q_proj], [q_proj, v_proj]]
)");
  const std::vector<std::string> expected = {
      "lr-1e-3_targets-q_proj", "lr-1e-3_targets-q_proj-v_proj", "lr-3e-3_targets-q_proj",
      "lr-3e-3_targets-q_proj-v_proj"};
  CHECK(sweep.names() == expected);
  CHECK(sweep.names() == expected);  // every time

  const std::vector<std::string> seeded = sweep.names({"seeds=[0, 7]"});
  REQUIRE(seeded.size() == 8);
  CHECK(seeded[0] == "lr-1e-3_targets-q_proj_seed-0");
  CHECK(seeded[1] == "lr-1e-3_targets-q_proj_seed-7");
}

TEST_CASE("list entries are combined with the grid and give their names", "[sweep]") {
  const TinySweep sweep(R"(list:
  - {name: plain, linearize.recipe: window}
  - {linearize.gate_normalizer: 4}
  - {lora.rank: 2, train.trainable: lora}
grid: {linearize.window_keys: [4, 8]}
)");
  CHECK(sweep.names() == std::vector<std::string>{"plain_window_keys-4", "plain_window_keys-8",
                                                  "gate_normalizer-4_window_keys-4",
                                                  "gate_normalizer-4_window_keys-8",
                                                  "rank-2_trainable-lora_window_keys-4",
                                                  "rank-2_trainable-lora_window_keys-8"});
  const SweepPlan plan = sweep.plan();
  CHECK(plan.runs[0].config.plan.recipe == "window");
  CHECK(plan.runs[3].config.plan.window_keys == 8);
  CHECK(plan.runs[3].config.plan.settings.at("gate_normalizer") == 4);
  CHECK(plan.runs[4].config.lora.rank == 2);
}

TEST_CASE("what is set for all runs reaches them, the command line last", "[sweep]") {
  const TinySweep sweep("set: {train.steps: 4, train.batch_rows: 3}\nseeds: [5]\nparallel: 100\n");
  const SweepPlan plan = sweep.plan({"train.steps=6"});
  REQUIRE(plan.runs.size() == 1);
  const SweepRun& run = plan.runs[0];
  CHECK(run.name == "run_seed-5");
  CHECK(run.config.train.steps == 6);
  CHECK(run.config.train.batch_rows == 3);
  CHECK(run.config.train.seed == 5);
  CHECK(run.config.device == "cpu");
  CHECK(run.config.threads == 1);  // a hundredth of the cores
  CHECK(run.config.run_folder == sweep.folder() / "run_seed-5");
  CHECK(run.config.known_losses == sweep.folder() / "known_losses");
  const std::string text = plan_to_text(plan);
  INFO(text);
  CHECK(text.find("run_seed-5") != std::string::npos);
  CHECK(text.find("100 at a time on cpu") != std::string::npos);
}

TEST_CASE("keys are shortened as far as they stay different", "[sweep]") {
  const auto names = shortest_keys({"data.seq_len", "train.optimizer.lr", "lora.rank", "other.rank",
                                    "seed", "data.seed", "linearize.layer_windows.7"});
  CHECK(names.at("data.seq_len") == "seq_len");
  CHECK(names.at("train.optimizer.lr") == "lr");
  CHECK(names.at("lora.rank") == "lora.rank");
  CHECK(names.at("other.rank") == "other.rank");
  CHECK(names.at("seed") == "seed");
  CHECK(names.at("data.seed") == "data.seed");
  CHECK(names.at("linearize.layer_windows.7") == "layer_windows.7");
}

TEST_CASE("a seed is put to a name and taken off again", "[sweep]") {
  CHECK(with_seed("a_b-1", 12) == "a_b-1_seed-12");
  CHECK(without_seed("a_b-1_seed-12") == "a_b-1");
  CHECK(without_seed("a_seed-x") == "a_seed-x");
  CHECK(without_seed("a_seed-") == "a_seed-");
  CHECK(without_seed("plain") == "plain");
}

TEST_CASE("wrong configs of runs come at once, before anything runs", "[sweep]") {
  const TinySweep sweep(R"(grid:
  lora.rank: [4, 0]
  train.optimizer.lr: [1e-3, 1e-4, fast]
set: {train.stps: 3}
)");
  std::string message;
  try {
    sweep.plan();
  } catch (const ConfigError& error) {
    message = error.what();
  }
  INFO(message);
  CHECK(message.find("6 of 6 runs cannot be read") != std::string::npos);
  // The two good combinations share the message of the mistyped key.
  CHECK(message.find("run rank-4_lr-1e-3, rank-4_lr-1e-4: ") != std::string::npos);
  CHECK(message.find("train.stps: unknown key") != std::string::npos);
  CHECK(message.find("lora.rank: expected an integer") != std::string::npos);
  CHECK(message.find("train.optimizer.lr: expected a number > 0, found \"fast\"") !=
        std::string::npos);
  CHECK_FALSE(std::filesystem::exists(sweep.folder()));
}

TEST_CASE("runs that would share a folder are refused", "[sweep]") {
  const TinySweep sweep("grid: {data.separator: [\"a b\", \"a/b\"]}\n");
  check_refused<ConfigError>([&] { sweep.plan(); }, "two runs would be called separator-a-b");
}

TEST_CASE("sweep.json lists the runs", "[sweep]") {
  const TinySweep sweep("grid: {lora.rank: [2, 4]}\nseeds: [1]\n");
  const Json json = sweep_to_json(sweep.plan());
  CHECK(json.at("base") == sweep.run().config_file().string());
  REQUIRE(json.at("runs").size() == 2);
  CHECK(json["runs"][1] ==
        Json({{"name", "rank-4_seed-1"}, {"settings", {{"lora.rank", "4"}}}, {"seed", 1}}));
}
