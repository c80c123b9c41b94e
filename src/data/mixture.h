// Rows drawn from several sets by weight. No Torch here.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/rows.h"

namespace tigon {

struct MixtureEntry {
  RowSet rows;
  double weight = 1;  // its share of the tokens, over the sum of the weights
  // Rows it gives in a whole run; 0: no limit, it begins again when it ends.
  int64_t max_rows = 0;
};

/// What a Loader reads: one set, or several that give their shares at every moment: the next row is
/// of the entry that is furthest behind its share (the first of equals). So no entry is ever more
/// than a row or two off, whatever the seed, which orders the rows within an entry. Once an entry
/// has given its limit, the others share on in the ratio of their weights.
class Mixture {
 public:
  /// All of one set, without a limit.
  explicit Mixture(RowSet rows);
  /// Throws UsageError for no entries, weights that are not above 0 and finite, limits below 0, and
  /// rows of different lengths.
  explicit Mixture(std::vector<MixtureEntry> entries);

  const std::vector<MixtureEntry>& entries() const { return entries_; }
  /// Rows of an epoch: until every entry was read through once, or to its limit.
  int64_t size() const { return size_; }
  /// Rows until every entry has reached its limit; nullopt if one has none.
  std::optional<int64_t> max_rows() const;
  int64_t seq_len() const { return entries_.front().rows.options().seq_len; }
  /// Names everything that decides the rows and their order.
  std::string key() const;

 private:
  std::vector<MixtureEntry> entries_;
  int64_t size_ = 0;
};

/// The rows of a mixture one after another. With order "rows" every pass over an entry has its own
/// permutation, the first one being the set's own order.
class MixtureReader {
 public:
  /// Starts at row `position`, counted from the start of the run. The mixture must outlive it.
  /// Finding the place takes time in proportion to it where there are several entries.
  MixtureReader(const Mixture& mixture, int64_t position);
  ~MixtureReader();

  /// Throws Error when every entry has reached its limit.
  Row next();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tigon
