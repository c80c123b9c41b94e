#include "eval/row_batch.h"

#include <utility>

namespace tigon {

RowBatch make_row_batch(const std::vector<Row>& rows, at::Device device) {
  std::vector<int64_t> tokens, lengths;
  std::vector<uint8_t> counted;
  for (const Row& row : rows) {
    tokens.insert(tokens.end(), row.tokens.begin(), row.tokens.end());
    lengths.insert(lengths.end(), row.segment_lengths.begin(), row.segment_lengths.end());
    if (row.counted.empty()) {
      counted.insert(counted.end(), row.tokens.size(), 1);
    } else {
      counted.insert(counted.end(), row.counted.begin(), row.counted.end());
    }
  }
  RowBatch result;
  size_t start = 0;
  for (const int64_t length : lengths) {
    // The first token of a segment has no predecessor.
    for (int64_t i = 1; i < length; ++i) {
      result.num_targets += counted[start + static_cast<size_t>(i)];
    }
    start += static_cast<size_t>(length);
  }
  result.batch = make_batch(std::move(tokens), std::move(lengths), device);
  result.targets = next_token_targets(result.batch, counted);
  return result;
}

RowBatch make_row_batch(const RowSet& rows, int64_t first, int64_t count, at::Device device) {
  std::vector<Row> chosen;
  for (int64_t i = first; i < first + count; ++i) chosen.push_back(rows.row(i));
  return make_row_batch(chosen, device);
}

}  // namespace tigon
