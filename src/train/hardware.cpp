#include "train/hardware.h"

#include <ATen/Parallel.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <sys/resource.h>
#include <unistd.h>

#include <thread>

#include "model/device.h"

namespace tigon {

Json describe_hardware(const at::Device& device) {
  const int64_t memory = int64_t{sysconf(_SC_PHYS_PAGES)} * int64_t{sysconf(_SC_PAGE_SIZE)};
  Json json = {{"device", device.str()},
               {"processor", device_name(at::kCPU)},
               {"cores", std::thread::hardware_concurrency()},
               {"threads", at::get_num_threads()},
               {"memory_bytes", memory}};
  if (device.is_cuda()) json["gpu"] = device_name(device);
  return json;
}

int64_t peak_memory_bytes(const at::Device& device) {
  if (!device.is_cpu()) {
    constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    return c10::getDeviceAllocator(device.type())
        ->getDeviceStats(device.index())
        .allocated_bytes[kAll]
        .peak;
  }
  constexpr int64_t kKibibyte = 1024;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * kKibibyte;
}

}  // namespace tigon
