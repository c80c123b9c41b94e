#include "train/recorded_step.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "support/catch.h"
#include "support/compare.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

RowBatch rows_of(int64_t first_token, const std::vector<int64_t>& lengths) {
  std::vector<Row> rows;
  for (const int64_t length : lengths) {
    Row row;
    for (int64_t i = 0; i < length; ++i) row.tokens.push_back(first_token + i);
    row.segment_lengths = {length};
    rows.push_back(row);
  }
  return make_row_batch(rows, at::kCPU);
}

}  // namespace

// On a GPU the fourth step of a shape is recorded and the ones after it are replayed; on the CPU
// every step runs as it is. Results and side effects must be the same.
TEST_CASE("recorded steps do what steps do, with the inputs at hand", "[recorded_step]") {
  const at::Tensor total = at::zeros({}, at::TensorOptions(at::kLong).device(test_device()));
  int calls = 0;
  RecordedStep recorded(
      test_device(),
      [&](const std::vector<RowBatch>& micros) {
        ++calls;
        at::Tensor targets;
        for (const RowBatch& micro : micros) {
          CHECK(micro.batch.tokens.device().type() == test_device().type());
          total.add_(micro.batch.tokens.sum());
          targets = micro.targets.amax();
        }
        return std::vector<at::Tensor>{total.clone(), targets};
      },
      /*may_record=*/true);
  int64_t expected = 0;
  std::vector<std::vector<at::Tensor>> kept;
  const auto step = [&](int64_t first, const std::vector<int64_t>& lengths) {
    kept.push_back(recorded.run({rows_of(first, lengths), rows_of(2 * first, lengths)}));
    for (const int64_t length : lengths) {
      for (int64_t i = 0; i < length; ++i) expected += 3 * first + 2 * i;
    }
    CHECK(kept.back()[0].item<int64_t>() == expected);
    CHECK(kept.back()[1].item<int64_t>() ==
          2 * first + *std::max_element(lengths.begin(), lengths.end()) - 1);
  };
  for (int64_t i = 1; i <= 8; ++i) step(i, {5, 7});
  step(100, {3});  // another shape between
  for (int64_t i = 9; i <= 12; ++i) step(i, {5, 7});
  CHECK(calls == (test_device().is_cpu() ? 13 : 5));
  // Results are the caller's own: the first one was not overwritten.
  CHECK(kept[4][0].item<int64_t>() < kept[5][0].item<int64_t>());
}
