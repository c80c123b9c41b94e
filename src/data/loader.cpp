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
  State(const Mixture& given_mixture, int64_t given_rows_per_batch)
      : mixture(given_mixture), rows_per_batch(given_rows_per_batch) {
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
      MixtureReader reader(mixture, position.epoch * mixture.size() + position.row);
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
    consumed = advance(consumed, rows_per_batch, mixture.size());
    return batch;
  }

  const Mixture mixture;
  const int64_t rows_per_batch;
  Position consumed;

  std::mutex mutex;
  std::condition_variable_any changed;
  std::deque<std::vector<Row>> ready;
  std::exception_ptr error;
  // Last: destroyed, and so joined, before what it uses.
  std::jthread thread;
};

Loader::Loader(const RowSet& rows, int64_t rows_per_batch)
    : Loader(Mixture(rows), rows_per_batch) {}

Loader::Loader(const Mixture& mixture, int64_t rows_per_batch) {
  if (rows_per_batch < 1) {
    throw UsageError(fmt::format("rows a batch: expected at least 1, found {}", rows_per_batch));
  }
  state_ = std::make_unique<State>(mixture, rows_per_batch);
}

Loader::~Loader() = default;

std::vector<Row> Loader::next() {
  return state_->next();
}

int64_t Loader::epoch() const {
  return state_->consumed.epoch;
}

Json Loader::position() const {
  const RowOptions& options = state_->mixture.entries().front().rows.options();
  return {{"epoch", state_->consumed.epoch}, {"row", state_->consumed.row},
          {"rows", state_->mixture.size()},  {"shard", state_->mixture.key()},
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
  // A mixture finds its place row by row; a place beyond this was not reached by any run.
  constexpr int64_t kMaxRows = int64_t{1} << 32;
  const int64_t size = state_->mixture.size();
  state_->start({position_integer(position, "epoch", kMaxRows / size + 1),
                 position_integer(position, "row", size)});
}

}  // namespace tigon
