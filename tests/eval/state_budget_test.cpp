#include "eval/state_budget.h"

#include <ATen/ATen.h>

#include "eval/perplexity.h"
#include "linearize/calibrate.h"
#include "model/state.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/tiny_model.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

constexpr int64_t kLayers = 3, kLength = 48;

struct Case {
  Model model = random_model(tiny_config(kLayers));
  Plan plan = load_plan("tigon", {"window_keys=4"});
  RowBatch rows;

  Case() {
    std::vector<Row> all;
    for (uint64_t i = 0; i < 3; ++i) {
      Row row;
      for (const int64_t token : random_tokens(kLength, 97, 50 + i)) row.tokens.push_back(token);
      row.segment_lengths = {kLength};
      all.push_back(row);
    }
    rows = make_row_batch(all, model.device);
  }

  int64_t bytes(const Plan& of) const {
    return state_bytes_per_sequence(build_stack(of, model.config), kLength, model.compute_dtype);
  }
  Plan with(int64_t layer, int64_t keys) const {
    Plan wider = plan;
    wider.layer_windows[layer] = keys;
    return wider;
  }
};

}  // namespace

TEST_CASE("every layer is probed alone at every size", "[state_budget]") {
  const Case c;
  const StateBudget budget = spend_state_budget(c.model, c.plan, c.bytes(c.plan), c.rows);
  REQUIRE(budget.probes.size() == kLayers * 4);  // 8, 16, 32 and, for 64, the 48 of a row
  CHECK(budget.before.bytes == c.bytes(c.plan));
  for (const LayerProbe& probe : budget.probes) {
    INFO("layer " << probe.layer << ", " << probe.window_keys << " keys");
    CHECK(probe.bytes == c.bytes(c.with(probe.layer, probe.window_keys)));
    CHECK(std::isfinite(probe.loss));
  }
  CHECK(budget.probes[0].window_keys == 8);
  CHECK(budget.probes[3].window_keys == kLength);
  // Nothing could be bought.
  CHECK(budget.layer_windows.empty());
  CHECK(budget.after.loss == budget.before.loss);
}

TEST_CASE("a state in bfloat16 costs its own bytes", "[state_budget]") {
  Case c;
  const int64_t wide = c.bytes(c.plan);
  c.plan = load_plan("tigon", {"window_keys=4", "state_dtype=bfloat16"});
  const int64_t matrices = kLayers * 2 * 32 * 17;  // numbers of them
  const StateBudget budget = spend_state_budget(c.model, c.plan, wide, c.rows);
  CHECK(budget.before.bytes == wide - 2 * matrices);
  CHECK(budget.after.bytes <= wide);
}

TEST_CASE("the first choice is the probe that pays most for its bytes", "[state_budget]") {
  const Case c;
  const int64_t allowed = c.bytes(c.with(0, 16));  // all layers cost the same
  const StateBudget budget = spend_state_budget(c.model, c.plan, allowed, c.rows);
  CHECK(budget.after.bytes <= allowed);
  double best_rate = 0;
  for (const LayerProbe& probe : budget.probes) {
    if (probe.bytes > allowed) continue;
    best_rate = std::max(
        best_rate, (budget.before.loss - probe.loss) / double(probe.bytes - budget.before.bytes));
  }
  if (best_rate > 0) {
    REQUIRE_FALSE(budget.layer_windows.empty());
    CHECK(budget.after.loss < budget.before.loss);
  } else {
    CHECK(budget.layer_windows.empty());
  }
  Plan chosen = c.plan;
  chosen.layer_windows = budget.layer_windows;
  CHECK(budget.after.bytes == c.bytes(chosen));
}

TEST_CASE("a large budget is spent only where it pays, and always in the same way",
          "[state_budget]") {
  const Case c;
  const StateBudget one = spend_state_budget(c.model, c.plan, 1 << 30, c.rows);
  const StateBudget two = spend_state_budget(c.model, c.plan, 1 << 30, c.rows);
  CHECK(one.layer_windows == two.layer_windows);
  CHECK(state_budget_to_json(one) == state_budget_to_json(two));
  CHECK(one.after.loss <= one.before.loss);
  for (const auto& [layer, keys] : one.layer_windows) CHECK(keys <= kLength);
  const std::string text = state_budget_to_text(one);
  CHECK(text.find("layer 2") != std::string::npos);
  CHECK(text.find("layer_windows: {") != std::string::npos);
}

TEST_CASE("a budget buys features of second order too", "[state_budget]") {
  Case c;
  c.plan = load_plan("tigon", {"window_keys=4", "feature_rank=3", "layer_feature_ranks={1: 13}"});
  const StateBudget budget = spend_state_budget(c.model, c.plan, 1 << 30, c.rows);
  std::map<int64_t, std::vector<int64_t>> ranks;  // of the probes with the plan's windows
  for (const LayerProbe& probe : budget.probes) {
    INFO("layer " << probe.layer << ", " << probe.window_keys << " keys, " << probe.feature_rank);
    Plan wider = c.with(probe.layer, probe.window_keys);
    wider.layer_feature_ranks[probe.layer] = probe.feature_rank;
    CHECK(probe.bytes == c.bytes(wider));
    CHECK(probe.bytes > budget.before.bytes);
    if (probe.window_keys == 4) ranks[probe.layer].push_back(probe.feature_rank);
    // As if it had been calibrated by itself.
    const MixerStack stack = build_stack(wider, c.model.config, c.model.device);
    calibrate(c.model, stack, c.rows.batch);
    CHECK(probe.loss ==
          summed_loss(c.model, stack, c.rows, false) / static_cast<double>(c.rows.num_targets));
  }
  CHECK(ranks[0] == std::vector<int64_t>{5, 7, 11});
  CHECK(ranks[1] == std::vector<int64_t>{14});
  CHECK(budget.probes.size() == kLayers * 4 + 3 + 1 + 3);
  Plan chosen = c.plan;
  chosen.layer_windows = budget.layer_windows;
  chosen.layer_feature_ranks = budget.layer_feature_ranks;
  CHECK(chosen.layer_feature_ranks.at(1) >= 13);
  CHECK(budget.after.bytes == c.bytes(chosen));
  const std::string text = state_budget_to_text(budget);
  CHECK(text.find("layer_feature_ranks: {") != std::string::npos);
  CHECK(state_budget_to_json(budget).at("probes").at(4).at("feature_rank") == 5);
}

TEST_CASE("budgets that cannot be spent are refused", "[state_budget]") {
  const Case c;
  check_refused<UsageError>(
      [&] { spend_state_budget(c.model, c.plan, c.bytes(c.plan) - 1, c.rows); },
      "expected at least the");
  check_refused<UsageError>(
      [&] { spend_state_budget(c.model, load_plan("none"), 1 << 30, c.rows); }, "recipe none");
  check_refused<UsageError>(
      [&] {
        spend_state_budget(c.model, load_plan("window", {"hybrid.layers=[1]"}), 1 << 30, c.rows);
      },
      "softmax layers grows");
}
