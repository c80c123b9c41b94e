// Rows, batch after batch, from a position that can be saved and restored.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "data/mixture.h"
#include "io/json_file.h"

namespace tigon {

/// Hands out `rows_per_batch` rows of a mixture a call, epoch after epoch without a gap: a batch
/// may end one epoch and begin the next. Reads ahead on one thread.
class Loader {
 public:
  Loader(const Mixture& mixture, int64_t rows_per_batch);
  /// All of one set.
  Loader(const RowSet& rows, int64_t rows_per_batch);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// The next batch. What went wrong while reading ahead is thrown here.
  std::vector<Row> next();

  /// Where the next call continues: epoch and row. Restoring gives bitwise the rows an
  /// uninterrupted run would have seen.
  Json position() const;
  /// Throws Error if the position is malformed or belongs to other rows (shard, number of rows,
  /// order or seed differ).
  void restore(const Json& position);
  /// The epoch of the row that comes next, from 0.
  int64_t epoch() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tigon
