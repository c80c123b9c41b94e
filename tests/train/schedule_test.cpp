#include "train/schedule.h"

#include "support/catch.h"

using namespace tigon;

TEST_CASE("constant schedule warms up linearly", "[schedule]") {
  const Schedule schedule({.kind = "constant", .warmup_steps = 4}, 0.8, 100);
  CHECK(schedule.rate(1) == Approx(0.2));
  CHECK(schedule.rate(3) == Approx(0.6));
  CHECK(schedule.rate(4) == Approx(0.8));
  CHECK(schedule.rate(5) == Approx(0.8));
  CHECK(schedule.rate(100) == Approx(0.8));
}

TEST_CASE("constant schedule without warm-up starts at the full rate", "[schedule]") {
  const Schedule schedule({.kind = "constant"}, 1e-3, 10);
  CHECK(schedule.rate(1) == 1e-3);
}

TEST_CASE("cosine schedule falls from lr to its final share", "[schedule]") {
  const Schedule schedule({.kind = "cosine", .warmup_steps = 10, .final_ratio = 0.1}, 2.0, 50);
  CHECK(schedule.rate(5) == Approx(1.0));
  CHECK(schedule.rate(10) == Approx(2.0));
  // A quarter, half and all of the way: (1 + cos(π p)) / 2 = 0.853553, 0.5, 0.
  CHECK(schedule.rate(20) == Approx(2.0 * (0.1 + 0.9 * 0.8535533906)));
  CHECK(schedule.rate(30) == Approx(2.0 * 0.55));
  CHECK(schedule.rate(50) == Approx(0.2));
  CHECK(schedule.rate(60) == Approx(0.2));
}

TEST_CASE("plateau schedule lowers the rate as ReduceLROnPlateau does", "[schedule]") {
  Schedule schedule(
      {.kind = "plateau", .factor = 0.1, .patience = 1, .threshold = 1e-4, .min_lr = 2e-3}, 0.1,
      1000);
  const auto rate_after = [&](double loss) {
    schedule.observe_validation(loss);
    return schedule.rate(500);
  };
  // Worked by hand from PyTorch's rule: more than `patience` validations without an improvement by
  // 0.01 %.
  CHECK(rate_after(2.0) == Approx(0.1));
  CHECK(rate_after(1.99999) == Approx(0.1));  // too little to count: bad 1
  CHECK(rate_after(1.9) == Approx(0.1));      // better: bad 0
  CHECK(rate_after(1.95) == Approx(0.1));     // bad 1
  CHECK(rate_after(1.92) == Approx(0.01));    // bad 2 > patience
  CHECK(rate_after(1.92) == Approx(0.01));    // counting starts again: bad 1
  CHECK(rate_after(1.92) == Approx(2e-3));    // 1e-3 would be below min_lr
  CHECK(rate_after(1.92) == Approx(2e-3));
  CHECK(rate_after(1.92) == Approx(2e-3));
}

TEST_CASE("a restored plateau schedule goes on as the first one", "[schedule]") {
  const ScheduleOptions options{.kind = "plateau", .factor = 0.5, .patience = 1};
  Schedule first(options, 0.1, 1000);
  first.observe_validation(2.0);
  first.observe_validation(2.0);
  Schedule second(options, 0.1, 1000);
  second.restore(Json::parse(first.state().dump()));
  first.observe_validation(2.0);
  second.observe_validation(2.0);
  CHECK(first.rate(10) == Approx(0.05));
  CHECK(second.rate(10) == first.rate(10));

  Schedule untouched(options, 0.1, 1000), from_untouched(options, 0.1, 1000);
  from_untouched.restore(Json::parse(untouched.state().dump()));
  from_untouched.observe_validation(1e9);
  CHECK(from_untouched.state().at("best") == 1e9);
}
