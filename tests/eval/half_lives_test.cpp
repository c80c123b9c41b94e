#include "eval/half_lives.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "linearize/plan.h"
#include "support/catch.h"
#include "support/tiny_rows.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

std::vector<HeadHalfLives> half_lives(const Plan& plan, int64_t rows_per_batch = 2) {
  const TemporaryFolder folder;
  const RowSet rows = tiny_rows(folder.path(), {.seq_len = 48, .order = "file", .max_rows = 3});
  const Model model = random_model(tiny_text_config());
  return measure_half_lives(model, build_stack(plan, model.config, model.device), rows,
                            rows_per_batch);
}

}  // namespace

TEST_CASE("half-lives of decays that do not depend on the text are those of the formula") {
  // tiny_text_config has 2 layers, 4 query heads and 2 KV heads.
  const auto tigon = half_lives(load_plan("tigon", {"decay_time=100"}));
  REQUIRE(tigon.size() == 4);
  for (const HeadHalfLives& head : tigon) {
    CHECK(head.median == Approx(100 * std::log(2)).epsilon(1e-4));
    CHECK(head.shortest == head.longest);
  }
  const auto supra = half_lives(load_plan("supra"));
  REQUIRE(supra.size() == 8);
  for (const HeadHalfLives& head : supra) {
    const double slope = std::exp2(-8.0 * static_cast<double>(head.head + 1) / 4);
    CHECK(head.median == Approx(std::log(2) / slope).epsilon(1e-4));
  }
  for (const HeadHalfLives& head : half_lives(load_plan("lolcats"))) {
    CHECK(head.median == std::numeric_limits<double>::infinity());
  }
}

TEST_CASE("half-lives of gates that read the keys scale with the gate's normalizer") {
  const auto slow = half_lives(load_plan("liger-gla", {"gate_normalizer=32"}));
  const auto fast = half_lives(load_plan("liger-gla", {"gate_normalizer=16"}));
  const auto other_batches = half_lives(load_plan("liger-gla", {"gate_normalizer=16"}), 1);
  REQUIRE(slow.size() == 4);
  // Only the first layer's keys are the same for both.
  for (size_t i = 0; i < 2; ++i) {
    CHECK(slow[i].layer == 0);
    CHECK(slow[i].median == Approx(2 * fast[i].median).epsilon(1e-4));
    CHECK(fast[i].shortest < fast[i].median);
    CHECK(fast[i].median < fast[i].longest);
  }
  for (size_t i = 0; i < fast.size(); ++i) {
    CHECK(other_batches[i].median == Approx(fast[i].median).epsilon(1e-4));
  }
}

TEST_CASE("only layers with a recurrence have half-lives") {
  CHECK(half_lives(load_plan("window")).empty());
  CHECK(half_lives_to_text({}) == "no layer has a recurrence: nothing fades\n");
  const auto hybrid = half_lives(load_plan("tigon", {"hybrid.layers=[0]"}));
  REQUIRE(hybrid.size() == 2);
  CHECK(hybrid[0].layer == 1);
}

TEST_CASE("half-lives as a table and as JSON") {
  const double infinite = std::numeric_limits<double>::infinity();
  const std::vector<HeadHalfLives> heads = {{0, 0, 3.25, 355.1, 2810}, {2, 1, 10, 20, infinite}};
  CHECK(half_lives_to_text(heads) ==
        "half-lives of the recurrence in tokens, over a head's channels:\n"
        "                 shortest  median  longest\n"
        "---------------  --------  ------  -------\n"
        "layer 0, head 0       3.2     355    2,810\n"
        "layer 2, head 1        10      20    never\n");
  const Json json = half_lives_to_json(heads);
  CHECK(
      json[0] ==
      Json(
          {{"layer", 0}, {"head", 0}, {"shortest", 3.25}, {"median", 355.1}, {"longest", 2810.0}}));
  CHECK(json[1]["longest"].is_null());
}
