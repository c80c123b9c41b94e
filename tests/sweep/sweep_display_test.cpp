// What a sweep says about its runs.
#include "sweep/sweep_display.h"

#include "support/catch.h"

using namespace tigon;

TEST_CASE("a run's state in a line", "[sweep]") {
  RunState state;
  CHECK(state_to_text(state) == "waiting");
  state.stage = RunStage::kRunning;
  CHECK(state_to_text(state) == "starting");
  state.step = 120;
  state.tokens_per_s = 81200;
  state.loss = 3.21449;
  CHECK(state_to_text(state) == "step 120  81,200 tokens/s  loss 3.2145");
  state.planned_steps = 1221;
  CHECK(state_to_text(state) == "step 120/1,221  81,200 tokens/s  loss 3.2145");
  state.step = 1221;
  CHECK(state_to_text(state) == "step 1,221/1,221  evaluating");
  state.stage = RunStage::kDone;
  state.seconds = 48;
  CHECK(state_to_text(state) == "done  48 s");
  state.has_results = state.has_recovered = true;
  state.trained_loss = 3.13322;
  state.recovered = 0.8534;
  CHECK(state_to_text(state) == "done  loss 3.1332  recovered 85.3 %  48 s");
  state.stage = RunStage::kFailed;
  state.reason = "step 3: the loss is nan\nand more";
  CHECK(state_to_text(state) == "failed: step 3: the loss is nan");
  state.stage = RunStage::kInterrupted;
  CHECK(state_to_text(state) == "interrupted after step 1221");
}

TEST_CASE("a sweep's totals in a line", "[sweep]") {
  std::vector<ShownRun> runs(5);
  CHECK(totals_to_text("runs/x", runs) == "runs/x: 0 of 5 done, 5 waiting");
  runs[0].state.stage = runs[1].state.stage = RunStage::kDone;
  runs[2].state.stage = RunStage::kFailed;
  runs[3].state.stage = RunStage::kRunning;
  CHECK(totals_to_text("runs/x", runs) == "runs/x: 2 of 5 done, 1 failed, 1 running, 1 waiting");
}
