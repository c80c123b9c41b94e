#include "data/loader.h"

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>

#include "core/error.h"
#include "core/random.h"

namespace tigon {
namespace {

constexpr size_t kBatchesAhead = 4;

/// A row among all epochs. `row` counts within the epoch and is below the number of rows.
struct Position {
  int64_t epoch = 0;
  int64_t row = 0;
};

Position advance(Position position, int64_t rows, int64_t rows_per_epoch) {
  // By quotients, so that no sum can overflow.
  position.epoch += rows / rows_per_epoch;
  position.row += rows % rows_per_epoch;
  if (position.row >= rows_per_epoch) {
    ++position.epoch;
    position.row -= rows_per_epoch;
  }
  return position;
}

/// The rows of a set in the order of each epoch, one after another.
class RowReader {
 public:
  RowReader(const RowSet& rows, Position position) : rows_(rows), position_(position) { permute(); }

  Row next() {
    const size_t row = static_cast<size_t>(position_.row);
    Row result = rows_.row(order_.empty() ? position_.row : order_[row]);
    const int64_t epoch = position_.epoch;
    position_ = advance(position_, 1, rows_.size());
    if (position_.epoch != epoch) permute();
    return result;
  }

 private:
  void permute() {
    order_.clear();
    if (rows_.options().order != "rows" || position_.epoch == 0) return;
    const std::string purpose = "rows of epoch " + std::to_string(position_.epoch);
    order_ = Random(derive_seed(rows_.options().seed, purpose)).permutation(rows_.size());
  }

  const RowSet& rows_;
  Position position_;
  std::vector<int64_t> order_;  // empty: as the set has them
};

int64_t position_integer(const Json& position, const char* key, int64_t bound) {
  const auto found = position.find(key);
  if (found == position.end() || !found->is_number_integer() || found->get<int64_t>() < 0 ||
      found->get<int64_t>() >= bound) {
    fail("loader position: {}: expected an integer from 0 to {}, found {}", key, bound - 1,
         found == position.end() ? "nothing" : found->dump());
  }
  return found->get<int64_t>();
}

}  // namespace

struct Loader::State {
  State(const RowSet& given_rows, int64_t given_rows_per_batch)
      : rows(given_rows), rows_per_batch(given_rows_per_batch) {
    start({});
  }

  /// Ends the thread, forgets what it read, and begins again at `position`.
  void start(Position position) {
    thread = {};
    ready.clear();
    error = nullptr;
    consumed = position;
    thread = std::jthread([this, position](std::stop_token stop) { read_ahead(stop, position); });
  }

  void read_ahead(std::stop_token stop, Position position) {
    try {
      RowReader reader(rows, position);
      while (!stop.stop_requested()) {
        std::vector<Row> batch;
        for (int64_t i = 0; i < rows_per_batch; ++i) batch.push_back(reader.next());
        std::unique_lock lock(mutex);
        if (!changed.wait(lock, stop, [this] { return ready.size() < kBatchesAhead; })) return;
        ready.push_back(std::move(batch));
        changed.notify_all();
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      error = std::current_exception();
      changed.notify_all();
    }
  }

  std::vector<Row> next() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return !ready.empty() || error != nullptr; });
    // What was read before the error is still good.
    if (ready.empty()) std::rethrow_exception(error);
    std::vector<Row> batch = std::move(ready.front());
    ready.pop_front();
    changed.notify_all();
    consumed = advance(consumed, rows_per_batch, rows.size());
    return batch;
  }

  const RowSet rows;
  const int64_t rows_per_batch;
  Position consumed;

  std::mutex mutex;
  std::condition_variable_any changed;
  std::deque<std::vector<Row>> ready;
  std::exception_ptr error;
  // Last: destroyed, and so joined, before what it uses.
  std::jthread thread;
};

Loader::Loader(const RowSet& rows, int64_t rows_per_batch) {
  if (rows_per_batch < 1) {
    throw UsageError(fmt::format("rows a batch: expected at least 1, found {}", rows_per_batch));
  }
  state_ = std::make_unique<State>(rows, rows_per_batch);
}

Loader::~Loader() = default;

std::vector<Row> Loader::next() {
  return state_->next();
}

int64_t Loader::epoch() const {
  return state_->consumed.epoch;
}

Json Loader::position() const {
  const RowOptions& options = state_->rows.options();
  return {{"epoch", state_->consumed.epoch}, {"row", state_->consumed.row},
          {"rows", state_->rows.size()},     {"shard", state_->rows.shard_key()},
          {"order", options.order},          {"seed", options.seed}};
}

void Loader::restore(const Json& position) {
  if (!position.is_object()) fail("loader position: expected an object, found {}", position.dump());
  const Json own = this->position();
  for (const char* key : {"rows", "shard", "order", "seed"}) {
    const auto found = position.find(key);
    if (found == position.end() || *found != own.at(key)) {
      fail("loader position: {}: expected {}, found {}; it belongs to another run's rows", key,
           own.at(key).dump(), found == position.end() ? "nothing" : found->dump());
    }
  }
  constexpr int64_t kMaxEpochs = int64_t{1} << 53;
  state_->start({position_integer(position, "epoch", kMaxEpochs),
                 position_integer(position, "row", state_->rows.size())});
}

}  // namespace tigon
