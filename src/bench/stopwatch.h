// Times of work on a device: marks in its queue, and the median of repeats.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <vector>

#include "io/json_file.h"

namespace tigon {

/// Seconds.
struct Timing {
  double median = 0, min = 0, max = 0;
};

/// Of at least one measurement; the median of an even number is the mean of the two in the middle.
Timing summarize(std::vector<double> seconds);
/// {"median_us", "min_us", "max_us"}.
Json timing_to_json(const Timing& timing);

/// Points in the work of a device: events in a GPU's current queue, the clock on the CPU.
class TimeMarks {
 public:
  explicit TimeMarks(at::Device device) : device_(device) {}

  /// Marks the end of all work queued so far, without waiting for it.
  void mark();
  /// Waits for the last mark; → the seconds between each mark and the next.
  std::vector<double> intervals() const;

 private:
  at::Device device_;
  std::vector<c10::Event> events_;
  std::vector<std::chrono::steady_clock::time_point> times_;
};

/// Times one piece of work again and again.
class Stopwatch {
 public:
  /// repeats ≥ 1.
  Stopwatch(at::Device device, int64_t repeats);

  /// Calls work(0), work(1), … : first to warm up, then `repeats` times timed. On a GPU it is kept
  /// busy for about a millisecond before each timed call: the host is then ahead of it, so that the
  /// time is the device's alone, and its cache holds nothing of the call before.
  Timing time(const std::function<void(int64_t call)>& work) const;

  const at::Device& device() const { return device_; }

 private:
  at::Device device_;
  int64_t repeats_;
  at::Tensor filler_;  // what a GPU is kept busy with
};

}  // namespace tigon
