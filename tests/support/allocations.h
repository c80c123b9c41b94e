// What tensors an expression allocates: tests of memory claims.
#pragma once
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <memory>
#include <mutex>

namespace tigon::testing {

/// Counts the bytes Torch's allocators hand out in this thread (and in backward passes it starts)
/// while the object lives. Allocations of earlier tensors do not count.
class AllocationRecorder {
 public:
  AllocationRecorder() : counts_(std::make_shared<Counts>()), guard_(kKind, counts_) {}

  /// The largest single allocation.
  int64_t largest() const { return counts_->largest; }
  /// The most that was alive at once.
  int64_t peak() const { return counts_->peak; }
  /// What is alive now.
  int64_t alive() const { return counts_->alive; }

 private:
  static constexpr c10::DebugInfoKind kKind = c10::DebugInfoKind::PROFILER_STATE;

  struct Counts : c10::MemoryReportingInfoBase {
    void reportMemoryUsage(void* ptr, int64_t bytes, size_t total_allocated, size_t total_reserved,
                           c10::Device device) override {
      const std::lock_guard lock(mutex);
      largest = std::max(largest, bytes);
      alive += bytes;
      peak = std::max(peak, alive);
    }
    bool memoryProfilingEnabled() const override { return true; }
    std::mutex mutex;
    int64_t largest = 0, peak = 0, alive = 0;
  };

  std::shared_ptr<Counts> counts_;
  c10::DebugInfoGuard guard_;
};

}  // namespace tigon::testing
