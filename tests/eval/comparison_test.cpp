#include "eval/comparison.h"

#include <ATen/ATen.h>

#include <set>

#include "lora/lora.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/tiny_rows.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

LoadedModel make_student(const Model& model, const Plan& plan) {
  return {.model = model,
          .plan = plan,
          .stack = build_stack(plan, model.config, model.device),
          .folder = {}};
}

/// Adapters that change what the model computes.
void add_random_adapters(ModelWeights& weights) {
  add_adapters(weights, {.rank = 2, .alpha = 4}, 5);
  const at::NoGradGuard no_grad;
  uint64_t seed = 0;
  for (auto& [name, parameter] : adapter_parameters(weights)) {
    parameter.copy_(random_tensor(parameter.sizes(), ++seed) * 0.2);
  }
}

double loss_of(const Comparison& comparison, const std::string& name) {
  return comparison.at(name).result.nats_per_token;
}

}  // namespace

TEST_CASE("the comparison of a teacher with an adapter evaluates six different models") {
  const TemporaryFolder folder;
  const RowSet rows = tiny_rows(folder.path(), {.seq_len = 160, .order = "file", .max_rows = 3});
  Model model = random_model(tiny_text_config());
  add_random_adapters(model.weights);
  const Plan plan = load_plan("liger-gla", {"window_keys=16"});
  const LoadedModel student = make_student(model, plan);
  const Comparison comparison = compare(student, student.model, rows, 2);

  const auto direct = [&](const MixerStack& stack, bool use_adapters) {
    return evaluate_loss(student.model, stack, rows, 2, use_adapters, "test").nats_per_token;
  };
  const MixerStack teacher = make_teacher_stack(model.config);
  REQUIRE(comparison.rows.size() == 6);
  CHECK(loss_of(comparison, "teacher") == direct(teacher, false));
  CHECK(loss_of(comparison, "teacher") != direct(teacher, true));
  CHECK(loss_of(comparison, "window_only") == direct(window_only_stack(model.config, 64), false));
  CHECK(loss_of(comparison, "own_window") == direct(window_only_stack(model.config, 16), false));
  CHECK(loss_of(comparison, "converted") == direct(student.stack, false));
  CHECK(loss_of(comparison, "trained") == direct(student.stack, true));
  CHECK(loss_of(comparison, "branch_off") == direct(window_only_stack(model.config, 16), true));
  std::set<double> losses;
  for (const ComparisonRow& row : comparison.rows) {
    losses.insert(row.result.nats_per_token);
    CHECK(row.result.tokens == 3 * 159);
  }
  CHECK(losses.size() == 6);
  check_refused([&] { comparison.at("nothing"); }, "no line 'nothing'");
}

TEST_CASE("recovered and over_own_window are measured against their own baselines") {
  const TemporaryFolder folder;
  const RowSet rows = tiny_rows(folder.path(), {.seq_len = 160, .order = "file", .max_rows = 2});
  const Model model = random_model(tiny_text_config());
  const LoadedModel student = make_student(model, load_plan("liger-gla", {"window_keys=16"}));
  const Comparison comparison = compare(student, model, rows, 2);
  const double teacher = loss_of(comparison, "teacher");
  const auto check_share = [&](const std::string& baseline,
                               std::optional<double> ComparisonRow::*share) {
    for (const ComparisonRow& row : comparison.rows) {
      INFO(row.name << " against " << baseline);
      const double start = loss_of(comparison, baseline);
      REQUIRE((row.*share).has_value() == (start > teacher));
      if (start > teacher) {
        CHECK(*(row.*share) ==
              Approx((start - row.result.nats_per_token) / (start - teacher)).margin(1e-9));
      }
    }
  };
  check_share("window_only", &ComparisonRow::recovered);
  check_share("own_window", &ComparisonRow::over_own_window);

  const Json json = comparison_to_json(comparison);
  CHECK(json.size() == 6);
  CHECK(json["trained"]["tokens"] == 2 * 159);
  CHECK(json["trained"]["recovered"].is_null() == !comparison.at("trained").recovered.has_value());
  const std::string text = comparison_to_text(comparison);
  CHECK(text.find("window only") != std::string::npos);
  CHECK(text.find(fmt::format("{:.4f}", teacher)) != std::string::npos);
}

TEST_CASE("stacks that compute the same are evaluated once") {
  const TemporaryFolder folder;
  const RowSet rows = tiny_rows(folder.path(), {.seq_len = 32, .order = "file", .max_rows = 2});
  const Model model = random_model(tiny_text_config());
  const LoadedModel student = make_student(model, {.recipe = "window"});
  const Comparison comparison = compare(student, model, rows, 2);
  CHECK(loss_of(comparison, "converted") == loss_of(comparison, "window_only"));
}

TEST_CASE("a comparison has no line for what a student does not have") {
  const TemporaryFolder folder;
  const RowSet rows = tiny_rows(folder.path(), {.seq_len = 32, .order = "file", .max_rows = 2});
  const Model model = random_model(tiny_text_config());
  const auto names = [&](const Plan& plan) {
    std::vector<std::string> all;
    for (const ComparisonRow& row : compare(make_student(model, plan), model, rows, 2).rows) {
      all.push_back(row.name);
    }
    return all;
  };
  using Names = std::vector<std::string>;
  CHECK(names(load_plan("window")) ==
        Names{"teacher", "window_only", "own_window", "converted", "trained"});
  CHECK(names(load_plan("supra")) == Names{"teacher", "window_only", "trained"});
  CHECK(names(load_plan("liger-gla")) ==
        Names{"teacher", "window_only", "own_window", "converted", "trained", "branch_off"});
}

TEST_CASE("a merged student is judged over the teacher's own weights") {
  const TemporaryFolder folder;
  const RowSet rows = tiny_rows(folder.path(), {.seq_len = 96, .order = "file", .max_rows = 2});
  const Model teacher = random_model(tiny_text_config(), 1);
  const Model merged = random_model(tiny_text_config(), 2);
  const LoadedModel student = make_student(merged, load_plan("liger-gla", {"window_keys=16"}));
  const Comparison comparison = compare(student, teacher, rows, 2);
  const auto direct = [&](const Model& model) {
    return evaluate_loss(model, student.stack, rows, 2, true, "test").nats_per_token;
  };
  CHECK(loss_of(comparison, "converted") == direct(teacher));
  CHECK(loss_of(comparison, "trained") == direct(merged));
  CHECK(direct(teacher) != direct(merged));

  ModelConfig other = tiny_text_config(3);
  check_refused([&] { compare(student, random_model(other), rows, 2); },
                "num_hidden_layers: expected 2, found 3");
}

TEST_CASE("losses of the teacher's weights are kept and read again") {
  const TemporaryFolder folder;
  const RowSet rows = tiny_rows(folder.path(), {.seq_len = 64, .order = "file", .max_rows = 2});
  Model model = random_model(tiny_text_config());
  add_random_adapters(model.weights);
  const LoadedModel student = make_student(model, load_plan("liger-gla", {"window_keys=16"}));
  const std::filesystem::path kept = folder / "known";
  const KnownLosses known(kept, "these weights");
  const Comparison first = compare(student, student.model, rows, 2, {}, &known);
  const Comparison plain = compare(student, student.model, rows, 2);
  CHECK(comparison_to_json(first) == comparison_to_json(plain));
  // teacher, window_only, own_window, converted: none of what was trained.
  std::vector<std::filesystem::path> files(std::filesystem::directory_iterator(kept), {});
  REQUIRE(files.size() == 4);

  // Marked, so that a reader can be told from one who measures.
  for (const auto& file : files) {
    Json loss = read_json_file(file);
    loss["nats_per_token"] = 77.0;
    write_json_file(file, loss);
  }
  const Comparison second = compare(student, student.model, rows, 1, {}, &known);
  CHECK(loss_of(second, "teacher") == 77);
  CHECK(loss_of(second, "converted") == 77);
  CHECK(loss_of(second, "trained") == Approx(loss_of(first, "trained")));

  const auto teacher_loss = [&](const KnownLosses& losses, const RowSet& other_rows) {
    return losses.loss(student.model, make_teacher_stack(model.config), other_rows, 2, "teacher")
        .nats_per_token;
  };
  // Other weights, other rows: other losses.
  CHECK(teacher_loss(KnownLosses(kept, "others"), rows) == loss_of(first, "teacher"));
  CHECK(teacher_loss(known, rows.part(0, 1)) != 77);
  CHECK(teacher_loss(known, rows) == 77);
  // A damaged file is made again.
  for (const auto& file : files) write_file_atomically(file, "{");
  CHECK(teacher_loss(known, rows) == loss_of(first, "teacher"));
  CHECK(teacher_loss(known, rows) == loss_of(first, "teacher"));
}
