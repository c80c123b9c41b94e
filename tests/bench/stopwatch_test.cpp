#include "bench/stopwatch.h"

#include <chrono>
#include <thread>

#include "support/catch.h"
#include "support/compare.h"

using namespace tigon;
using namespace tigon::testing;

TEST_CASE("the median, the least and the most of measurements") {
  const Timing odd = summarize({3, 1, 2});
  CHECK(odd.median == 2);
  CHECK(odd.min == 1);
  CHECK(odd.max == 3);
  CHECK(summarize({4, 1, 2, 9}).median == 3);
  CHECK(summarize({5}).median == 5);
  CHECK(timing_to_json({.median = 2e-6, .min = 1e-6, .max = 3e-6})["median_us"].get<double>() ==
        Approx(2));
}

TEST_CASE("a stopwatch warms up, then times each call") {
  int64_t calls = 0;
  const Timing timing = Stopwatch(test_device(), 4).time([&](int64_t call) {
    CHECK(call == calls);
    ++calls;
  });
  CHECK(calls > 4);
  CHECK(timing.min >= 0);
  CHECK(timing.min <= timing.median);
  CHECK(timing.median <= timing.max);
}

TEST_CASE("time passes between marks") {
  TimeMarks marks(at::kCPU);
  CHECK(marks.intervals().empty());
  marks.mark();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  marks.mark();
  marks.mark();
  const std::vector<double> seconds = marks.intervals();
  REQUIRE(seconds.size() == 2);
  CHECK(seconds[0] >= 0.02);
  CHECK(seconds[1] < seconds[0]);
}
