#include "data/mixture.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "core/error.h"
#include "core/random.h"
#include "data/content_hash.h"

namespace tigon {
namespace {

void check(const std::vector<MixtureEntry>& entries) {
  if (entries.empty()) throw UsageError("mixture: expected at least one entry, found none");
  for (const MixtureEntry& entry : entries) {
    if (!(entry.weight > 0) || !std::isfinite(entry.weight)) {
      throw UsageError(fmt::format("weight: expected a number above 0, found {}", entry.weight));
    }
    if (entry.max_rows < 0) {
      throw UsageError(
          fmt::format("mixture: expected a limit of at least 0 rows, found {}", entry.max_rows));
    }
    const int64_t first = entries.front().rows.options().seq_len;
    const int64_t other = entry.rows.options().seq_len;
    if (first != other) {
      throw UsageError(fmt::format("mixture: expected rows of one length, found {} and {} tokens",
                                   first, other));
    }
  }
}

/// Shares of the entries in what is drawn next, by largest deficit.
class Shares {
 public:
  explicit Shares(const std::vector<MixtureEntry>& entries)
      : entries_(entries), given_(entries.size(), 0), given_in_phase_(entries.size(), 0) {}

  int64_t given(size_t entry) const { return given_[entry]; }
  bool is_spent(size_t entry) const {
    return entries_[entry].max_rows > 0 && given_[entry] >= entries_[entry].max_rows;
  }

  /// The entry of the next row; nullopt if all are spent.
  std::optional<size_t> next() {
    double total_weight = 0;
    for (size_t i = 0; i < entries_.size(); ++i)
      total_weight += is_spent(i) ? 0 : entries_[i].weight;
    std::optional<size_t> chosen;
    double largest = 0;
    for (size_t i = 0; i < entries_.size(); ++i) {
      if (is_spent(i)) continue;
      const double due = entries_[i].weight / total_weight * static_cast<double>(phase_rows_ + 1);
      const double deficit = due - static_cast<double>(given_in_phase_[i]);
      if (!chosen || deficit > largest) {
        chosen = i;
        largest = deficit;
      }
    }
    if (!chosen) return chosen;
    ++given_[*chosen];
    ++given_in_phase_[*chosen];
    ++phase_rows_;
    if (is_spent(*chosen)) {
      // The others' shares change from here on.
      std::ranges::fill(given_in_phase_, 0);
      phase_rows_ = 0;
    }
    return chosen;
  }

 private:
  const std::vector<MixtureEntry>& entries_;
  std::vector<int64_t> given_;           // rows so far
  std::vector<int64_t> given_in_phase_;  // since an entry last reached its limit
  int64_t phase_rows_ = 0;
};

int64_t epoch_rows(const std::vector<MixtureEntry>& entries) {
  if (entries.size() == 1) {
    const int64_t limit = entries[0].max_rows, size = entries[0].rows.size();
    return limit > 0 ? std::min(limit, size) : size;
  }
  Shares shares(entries);
  const auto is_read = [&](size_t i) {
    return shares.is_spent(i) || shares.given(i) >= entries[i].rows.size();
  };
  // A share so small that its entry is never read through is a mistake.
  constexpr int64_t kMaxEpochRows = int64_t{1} << 30;
  int64_t rows = 0;
  size_t num_read = 0;
  std::vector<bool> was_read(entries.size(), false);
  while (num_read < entries.size()) {
    const size_t entry = shares.next().value();
    if (++rows > kMaxEpochRows) {
      throw UsageError(
          fmt::format("weight: expected shares that read every entry through within {} rows, found "
                      "smaller ones",
                      kMaxEpochRows));
    }
    if (was_read[entry] || !is_read(entry)) continue;
    was_read[entry] = true;
    ++num_read;
  }
  return rows;
}

}  // namespace

Mixture::Mixture(RowSet rows) {
  entries_.push_back({std::move(rows)});
  size_ = entries_.front().rows.size();
}

Mixture::Mixture(std::vector<MixtureEntry> entries) : entries_(std::move(entries)) {
  check(entries_);
  size_ = epoch_rows(entries_);
}

std::optional<int64_t> Mixture::max_rows() const {
  int64_t rows = 0;
  for (const MixtureEntry& entry : entries_) {
    if (entry.max_rows == 0) return std::nullopt;
    rows += entry.max_rows;
  }
  return rows;
}

std::string Mixture::key() const {
  const MixtureEntry& first = entries_.front();
  if (entries_.size() == 1 && first.max_rows == 0) return first.rows.shard_key();
  ContentHash hash;
  for (const MixtureEntry& entry : entries_) {
    hash.add(entry.rows.shard_key());
    hash.add(fmt::format("{} {} {}", entry.rows.size(), entry.weight, entry.max_rows));
  }
  return hash.hex();
}

struct MixtureReader::State {
  explicit State(const Mixture& given_mixture)
      : mixture(given_mixture), shares(mixture.entries()), orders(mixture.entries().size()) {}

  /// The rows of one pass over an entry.
  struct Order {
    int64_t epoch = 0;
    std::vector<int64_t> rows;  // empty: as the set has them
  };

  Row read(size_t entry, int64_t ordinal) {
    const RowSet& rows = mixture.entries()[entry].rows;
    const int64_t epoch = ordinal / rows.size(), index = ordinal % rows.size();
    Order& order = orders[entry];
    if (epoch != order.epoch) {
      order = {epoch, {}};
      if (rows.options().order == "rows" && epoch > 0) {
        const std::string purpose = "rows of epoch " + std::to_string(epoch);
        order.rows = Random(derive_seed(rows.options().seed, purpose)).permutation(rows.size());
      }
    }
    return rows.row(order.rows.empty() ? index : order.rows[static_cast<size_t>(index)]);
  }

  const Mixture& mixture;
  Shares shares;
  std::vector<Order> orders;
  int64_t skipped = 0;  // of the only entry
};

MixtureReader::MixtureReader(const Mixture& mixture, int64_t position)
    : state_(std::make_unique<State>(mixture)) {
  if (mixture.entries().size() == 1 && mixture.entries().front().max_rows == 0) {
    state_->skipped = position;
    return;
  }
  for (int64_t i = 0; i < position; ++i) {
    if (!state_->shares.next()) break;
  }
}

MixtureReader::~MixtureReader() = default;

Row MixtureReader::next() {
  const std::optional<size_t> entry = state_->shares.next();
  if (!entry) {
    fail("data: every entry has reached its limit (epochs, max_tokens) after {} rows",
         state_->mixture.max_rows().value_or(0));
  }
  return state_->read(*entry, state_->skipped + state_->shares.given(*entry) - 1);
}

}  // namespace tigon
