#include "bench/stopwatch.h"

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <utility>

namespace tigon {
namespace {

constexpr int64_t kWarmUpCalls = 3;
// 8 × 512 MiB take 1 ms at 4 TB/s, and no GPU's cache holds that much.
constexpr int64_t kFillerBytes = int64_t{512} << 20;
constexpr int kFillings = 8;

}  // namespace

Timing summarize(std::vector<double> seconds) {
  std::ranges::sort(seconds);
  const size_t middle = seconds.size() / 2;
  const double upper = seconds.at(middle);
  const double median = seconds.size() % 2 == 1 ? upper : (seconds[middle - 1] + upper) / 2;
  return {.median = median, .min = seconds.front(), .max = seconds.back()};
}

Json timing_to_json(const Timing& timing) {
  return {{"median_us", timing.median * 1e6},
          {"min_us", timing.min * 1e6},
          {"max_us", timing.max * 1e6}};
}

void TimeMarks::mark() {
  if (device_.is_cpu()) {
    times_.push_back(std::chrono::steady_clock::now());
    return;
  }
  c10::Event event(device_.type(), c10::EventFlag::BACKEND_DEFAULT);  // one that keeps its time
  event.record(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_));
  events_.push_back(std::move(event));
}

std::vector<double> TimeMarks::intervals() const {
  std::vector<double> seconds;
  for (size_t i = 1; i < times_.size(); ++i) {
    seconds.push_back(std::chrono::duration<double>(times_[i] - times_[i - 1]).count());
  }
  if (!events_.empty()) events_.back().synchronize();
  for (size_t i = 1; i < events_.size(); ++i) {
    seconds.push_back(events_[i - 1].elapsedTime(events_[i]) / 1e3);  // from milliseconds
  }
  return seconds;
}

Stopwatch::Stopwatch(at::Device device, int64_t repeats) : device_(device), repeats_(repeats) {
  if (!device.is_cpu()) filler_ = at::empty({kFillerBytes}, at::device(device).dtype(at::kByte));
}

Timing Stopwatch::time(const std::function<void(int64_t call)>& work) const {
  for (int64_t call = 0; call < kWarmUpCalls; ++call) work(call);
  std::vector<double> seconds;
  for (int64_t call = 0; call < repeats_; ++call) {
    if (filler_.defined()) {
      for (int i = 0; i < kFillings; ++i) filler_.zero_();
    }
    TimeMarks marks(device_);
    marks.mark();
    work(kWarmUpCalls + call);
    marks.mark();
    seconds.push_back(marks.intervals().front());
  }
  return summarize(std::move(seconds));
}

}  // namespace tigon
