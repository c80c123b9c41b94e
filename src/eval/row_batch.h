// Rows as a model and its loss take them.
#pragma once
#include <cstdint>
#include <vector>

#include "data/rows.h"
#include "model/batch.h"

namespace tigon {

struct RowBatch {
  Batch batch;              // the rows laid end to end
  at::Tensor targets;       // [N] int64: next tokens, kIgnoredTarget where none is counted
  int64_t num_targets = 0;  // targets that are counted
};

/// A segment of n tokens holds n − 1 predictions, less those of tokens that a row does not count.
RowBatch make_row_batch(const std::vector<Row>& rows, at::Device device);
/// Of rows first … first + count − 1.
RowBatch make_row_batch(const RowSet& rows, int64_t first, int64_t count, at::Device device);

}  // namespace tigon
