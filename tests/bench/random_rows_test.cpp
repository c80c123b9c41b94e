#include "bench/random_rows.h"

#include <algorithm>
#include <set>

#include "support/catch.h"

using namespace tigon;

TEST_CASE("random rows are whole, within the vocabulary and the same for a seed") {
  const Mixture mixture = random_rows(3, 40, 17, 5), same = random_rows(3, 40, 17, 5);
  CHECK(mixture.size() == 3);
  CHECK(mixture.seq_len() == 40);
  MixtureReader reader(mixture, 0), again(same, 0);
  std::set<int64_t> seen;
  for (int i = 0; i < 3; ++i) {
    const Row row = reader.next();
    CHECK(row.segment_lengths == std::vector<int64_t>{40});
    CHECK(row.tokens == again.next().tokens);
    seen.insert(row.tokens.begin(), row.tokens.end());
  }
  CHECK(*seen.begin() >= 0);
  CHECK(*seen.rbegin() < 17);
  CHECK(seen.size() > 10);
}
