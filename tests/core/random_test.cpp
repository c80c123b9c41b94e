// Expected values come from a transcription of the algorithms into Python integers; those of
// splitmix64 for seed 1234567 are also its published test vector.
#include "core/random.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "support/catch.h"

using namespace tigon;

TEST_CASE("random: splitmix64 gives its published sequence") {
  Random random(1234567);
  CHECK(random.next() == 6457827717110365317u);
  CHECK(random.next() == 3203168211198807973u);
  CHECK(random.next() == 9817491932198370423u);
}

TEST_CASE("random: uniform numbers and permutations are the same on every machine") {
  Random uniform(42);
  CHECK(uniform.uniform() == 0.7415648787718233);
  CHECK(uniform.uniform() == 0.1599103928769201);
  CHECK(uniform.uniform() == 0.27860113025513866);
  CHECK(Random(7).permutation(10) == std::vector<int64_t>{8, 1, 5, 9, 0, 4, 3, 2, 6, 7});
  // Half of all draws are rejected for this bound.
  Random bounded(5);
  CHECK(bounded.below((uint64_t{1} << 63) + 1) == 4654242949169100535u);
  CHECK(bounded.below((uint64_t{1} << 63) + 1) == 8957066056171264800u);
  CHECK(bounded.below((uint64_t{1} << 63) + 1) == 204786321411665706u);
}

TEST_CASE("random: seeds of different purposes differ") {
  CHECK(derive_seed(0, "data") == 14755474915860869684u);
  CHECK(derive_seed(1, "data") == 7834923709752243413u);
  CHECK(derive_seed(0, "lora") == 6420340499280451189u);
}

TEST_CASE("random: below() reaches every value about equally often") {
  Random random(3);
  std::vector<int> counts(7, 0);
  constexpr int kDraws = 70000;
  for (int i = 0; i < kDraws; ++i) ++counts[random.below(7)];
  // 10000 expected each; the standard deviation is 93.
  for (const int count : counts) CHECK(std::abs(count - kDraws / 7) < 500);
  CHECK(random.below(1) == 0);
}

TEST_CASE("random: a permutation holds every index once") {
  std::vector<int64_t> order = Random(11).permutation(1000);
  CHECK_FALSE(std::is_sorted(order.begin(), order.end()));
  std::sort(order.begin(), order.end());
  std::vector<int64_t> all(1000);
  std::iota(all.begin(), all.end(), 0);
  CHECK(order == all);
  CHECK(Random(11).permutation(0).empty());
}
