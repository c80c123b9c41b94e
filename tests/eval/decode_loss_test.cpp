#include "eval/decode_loss.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/error.h"
#include "eval/comparison.h"
#include "lora/lora.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/tiny_rows.h"
#include "support/tolerance.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

double whole(const Model& model, const MixerStack& stack, const RowSet& rows) {
  return evaluate_loss(model, stack, rows, 3, true, "whole").nats_per_token;
}

MixerStack tigon_stack(const Model& model, const std::vector<std::string>& overrides = {}) {
  std::vector<std::string> keys = {"window_keys=8", "decay_time=50"};
  keys.insert(keys.end(), overrides.begin(), overrides.end());
  return build_stack(load_plan("tigon", keys), model.config, model.device);
}

/// Of tigon: as many predictions and the same loss, token by token and in whole rows.
void check_same_as_whole(const RowSet& rows) {
  const Model model = random_model(tiny_text_config());
  const MixerStack stack = tigon_stack(model);
  const LossResult expected = evaluate_loss(model, stack, rows, 2, true, "whole");
  const LossResult found = evaluate_decode_loss(model, stack, rows, 2, true, "decoded");
  CHECK(found.tokens == expected.tokens);
  CHECK(found.nats_per_token == Approx(expected.nats_per_token).epsilon(kFormsAgree));
}

}  // namespace

TEST_CASE("In float32 the loss token by token is the loss of whole rows", "[decode_loss]") {
  const TemporaryFolder folder;
  const RowSet rows = tiny_rows(folder.path(), {.seq_len = 60, .order = "file", .max_rows = 5});
  const Model model = random_model(tiny_text_config());
  const std::vector<MixerStack> stacks = {
      make_teacher_stack(model.config), tigon_stack(model),
      build_stack(load_plan("liger-gla", {"window_keys=8", "hybrid.layers=[1]"}), model.config)};
  for (const MixerStack& stack : stacks) {
    INFO(stack[0]->describe());
    for (const int64_t rows_per_batch : {3, 10}) {  // 3 does not divide 5
      const LossResult found =
          evaluate_decode_loss(model, stack, rows, rows_per_batch, true, "decoded");
      CHECK(found.tokens == 5 * 59);
      CHECK(found.nats_per_token == Approx(whole(model, stack, rows)).epsilon(kFormsAgree));
      CHECK(found.perplexity == Approx(std::exp(found.nats_per_token)));
    }
  }
}

TEST_CASE("Token by token, segments of different lengths start anew", "[decode_loss]") {
  const TemporaryFolder folder;
  const RowSet rows = tiny_rows(
      folder.path(), {.seq_len = 400, .borders = "documents", .order = "file", .max_rows = 3});
  check_same_as_whole(rows);
}

TEST_CASE("Token by token, masked tokens are not counted", "[decode_loss]") {
  const TemporaryFolder folder;
  const RowSet rows = masked_tiny_rows(folder.path(), 6);
  check_same_as_whole(rows);
}

TEST_CASE("A rounded state shows in the loss token by token alone", "[decode_loss]") {
  const TemporaryFolder folder;
  const RowSet rows = tiny_rows(folder.path(), {.seq_len = 90, .order = "file", .max_rows = 3});
  const Model model = random_model(tiny_text_config());
  const MixerStack exact = tigon_stack(model);
  const MixerStack rounded = tigon_stack(model, {"state_dtype=bfloat16"});
  CHECK(whole(model, rounded, rows) == whole(model, exact, rows));
  const auto decoded = [&](int64_t rows_per_batch) {
    return evaluate_decode_loss(model, rounded, rows, rows_per_batch, true, "decoded")
        .nats_per_token;
  };
  const double together = decoded(3);
  CHECK(together != whole(model, rounded, rows));
  CHECK(together == Approx(whole(model, rounded, rows)).epsilon(kRoundedState));
  CHECK(decoded(1) == Approx(together).epsilon(kFormsAgree));
}

TEST_CASE("The line decoded stands behind the trained one and has shares", "[decode_loss]") {
  const TemporaryFolder folder;
  const RowSet rows = tiny_rows(folder.path(), {.seq_len = 160, .order = "file", .max_rows = 2});
  Model model = random_model(tiny_text_config());
  add_adapters(model.weights, {.rank = 2, .alpha = 4}, 5);
  {
    const at::NoGradGuard no_grad;
    for (auto& [name, parameter] : adapter_parameters(model.weights)) {
      parameter.copy_(random_tensor(parameter.sizes(), name.size()) * 0.2);
    }
  }
  const Plan plan = load_plan("liger-gla", {"window_keys=16"});
  const LoadedModel student{
      .model = model, .plan = plan, .stack = build_stack(plan, model.config), .folder = {}};
  Comparison comparison = compare(student, model, rows, 2);
  add_decoded_row(comparison, student, rows, 2);
  REQUIRE(comparison.rows.size() == 7);
  CHECK(comparison.rows[5].name == "decoded");
  const ComparisonRow &decoded = comparison.at("decoded"), &trained = comparison.at("trained");
  CHECK(decoded.result.nats_per_token ==
        Approx(trained.result.nats_per_token).epsilon(kFormsAgree));
  REQUIRE(decoded.recovered.has_value() == trained.recovered.has_value());
  CHECK(decoded.over_own_window.has_value() == trained.over_own_window.has_value());
  if (trained.recovered) CHECK(*decoded.recovered == Approx(*trained.recovered).margin(0.05));
  CHECK(comparison_to_json(comparison).contains("decoded"));
  CHECK(comparison_to_text(comparison).find("decoded") != std::string::npos);

  Comparison alone;  // a run without a teacher
  alone.rows.push_back({"trained", trained.result});
  add_decoded_row(alone, student, rows, 2);
  CHECK(alone.rows.size() == 2);
  CHECK_FALSE(alone.at("decoded").recovered.has_value());
}

TEST_CASE("evaluate_decode_loss refuses what evaluate_loss does", "[decode_loss]") {
  const TemporaryFolder folder;
  const RowSet rows = tiny_rows(folder.path(), {.seq_len = 32, .order = "file", .max_rows = 2});
  Model model = random_model(tiny_text_config());
  const MixerStack stack = make_teacher_stack(model.config);
  CHECK_THROWS_AS(evaluate_decode_loss(model, stack, rows, 0, true, "test"), UsageError);
  model.weights.norm.fill_(std::numeric_limits<double>::quiet_NaN());
  check_refused([&] { evaluate_decode_loss(model, stack, rows, 2, true, "test"); },
                "test: expected a finite loss");
}
