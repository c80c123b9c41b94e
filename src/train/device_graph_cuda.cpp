#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>

#include "train/device_graph.h"

namespace tigon {
namespace {

class CudaGraph : public DeviceGraph {
 public:
  CudaGraph(const at::Device& device, const std::function<void()>& work) : device_(device) {
    // A stream that captures may not be the default one.
    c10::cuda::device_synchronize();
    const c10::cuda::CUDAStreamGuard guard(
        c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index()));
    graph_.capture_begin();
    try {
      work();
    } catch (...) {
      // The capture has to end before the error is told.
      try {
        graph_.capture_end();
      } catch (...) {  // what broke the capture is what the caller learns
      }
      throw;
    }
    graph_.capture_end();
  }

  void replay() override {
    const c10::cuda::CUDAGuard guard(device_);
    graph_.replay();
  }

 private:
  at::Device device_;
  at::cuda::CUDAGraph graph_;
};

}  // namespace

std::unique_ptr<DeviceGraph> record_device_graph(const at::Device& device, int64_t work_bytes,
                                                 const std::function<void()>& work) {
  if (!device.is_cuda()) return nullptr;
  const c10::cuda::CUDAGuard guard(device);
  // A recording takes no blocks that earlier work left in the allocator's cache.
  c10::cuda::CUDACachingAllocator::emptyCache();
  size_t free_bytes = 0, total_bytes = 0;
  C10_CUDA_CHECK(cudaMemGetInfo(&free_bytes, &total_bytes));
  if (static_cast<int64_t>(free_bytes) < 2 * work_bytes) return nullptr;
  try {
    return std::make_unique<CudaGraph>(device, work);
  } catch (const c10::Error&) {
    static_cast<void>(cudaGetLastError());  // what the broken capture left
    return nullptr;
  }
}

}  // namespace tigon
