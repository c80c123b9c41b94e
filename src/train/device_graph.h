// Work on a GPU recorded once and launched again as a whole: a step of a small model is a thousand
// kernels of a few microseconds, and launching them one by one takes longer than running them.
#pragma once
#include <c10/core/Device.h>

#include <functional>
#include <memory>

namespace tigon {

class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  /// Queues the recorded work on the current stream: the same kernels on the same addresses.
  virtual void replay() = 0;
};

/// Records what `work` queues on `device`, without running it. Nothing in it may wait for the
/// device or depend on its numbers; tensors from outside must keep their places, and the tensors it
/// makes hold the results of the latest replay. A recording keeps the memory of its work for
/// itself: `work_bytes`, at most. Null where that is not free twice over beside what is in use,
/// where the work turns out to be of a kind that cannot be recorded (plain definitions bring index
/// tensors from the host), and on devices that record nothing (the CPU, a build without CUDA).
std::unique_ptr<DeviceGraph> record_device_graph(const at::Device& device, int64_t work_bytes,
                                                 const std::function<void()>& work);

}  // namespace tigon
