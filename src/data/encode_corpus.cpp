#include "data/encode_corpus.h"

#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <thread>
#include <utility>

#include "core/error.h"
#include "data/corpus.h"

namespace tigon {
namespace {

// Small documents are handed to a thread together, so that handing over costs nothing.
constexpr size_t kBatchBytes = size_t{1} << 18;
// Batches that wait or are worked on, per thread.
constexpr size_t kBatchesPerThread = 3;

using Batch = std::vector<Document>;
using EncodedBatch = std::vector<EncodedDocument>;

/// Threads that take batches from a queue until the pool is destroyed.
class EncodingPool {
 public:
  EncodingPool(const Tokenizer& tokenizer, int num_threads) : tokenizer_(tokenizer) {
    for (int i = 0; i < num_threads; ++i) {
      threads_.emplace_back([this](std::stop_token stop) { work(stop); });
    }
  }
  ~EncodingPool() {
    for (std::jthread& thread : threads_) thread.request_stop();
  }

  std::future<EncodedBatch> submit(Batch batch) {
    std::packaged_task<EncodedBatch()> task(
        [this, batch = std::move(batch)] { return encode(batch); });
    std::future<EncodedBatch> result = task.get_future();
    {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    has_task_.notify_one();
    return result;
  }

 private:
  void work(std::stop_token stop) {
    std::unique_lock lock(mutex_);
    while (has_task_.wait(lock, stop, [this] { return !tasks_.empty(); }) &&
           !stop.stop_requested()) {
      std::packaged_task<EncodedBatch()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
      lock.lock();
    }
  }

  EncodedBatch encode(const Batch& batch) const {
    EncodedBatch result;
    result.reserve(batch.size());
    for (const Document& document : batch) {
      result.push_back(encode_document(document, tokenizer_));
    }
    return result;
  }

  const Tokenizer& tokenizer_;
  std::mutex mutex_;
  std::condition_variable_any has_task_;
  std::deque<std::packaged_task<EncodedBatch()>> tasks_;
  // Last: destroyed, and so joined, before what the threads use.
  std::vector<std::jthread> threads_;
};

}  // namespace

CorpusCounts encode_corpus(const std::vector<std::filesystem::path>& files,
                           const Tokenizer& tokenizer, int num_threads,
                           const std::function<void(EncodedDocument&& document)>& visit,
                           const DocumentOptions& options) {
  if (num_threads < 1) fail("tokenizing: expected at least 1 thread, found {}", num_threads);
  const size_t max_in_flight = kBatchesPerThread * static_cast<size_t>(num_threads);
  EncodingPool pool(tokenizer, num_threads);
  std::deque<std::future<EncodedBatch>> in_flight;
  const auto hand_over_oldest = [&] {
    EncodedBatch batch = in_flight.front().get();
    in_flight.pop_front();
    for (EncodedDocument& document : batch) visit(std::move(document));
  };
  Batch batch;
  size_t batch_bytes = 0;
  const auto submit = [&] {
    if (in_flight.size() == max_in_flight) hand_over_oldest();
    in_flight.push_back(pool.submit(std::exchange(batch, {})));
    batch_bytes = 0;
  };
  const auto take = [&](Document&& document) {
    batch_bytes += document.text_bytes();
    batch.push_back(std::move(document));
    if (batch_bytes >= kBatchBytes) submit();
  };
  const CorpusCounts counts = for_each_document(files, take, options);
  if (!batch.empty()) submit();
  while (!in_flight.empty()) hand_over_oldest();
  return counts;
}

}  // namespace tigon
