#include "model/device.h"

#include <torch/cuda.h>

#include <charconv>
#include <fstream>

#include "core/error.h"

namespace tigon {
namespace {

/// N of "cuda:N", 0 for "cuda"; −1 for anything else.
int gpu_index(const std::string& device) {
  if (device == "cuda") return 0;
  if (!device.starts_with("cuda:")) return -1;
  int index = -1;
  const char* end = device.data() + device.size();
  const auto [stop, error] = std::from_chars(device.data() + 5, end, index);
  return error == std::errc() && stop == end ? index : -1;
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown processor";
}

}  // namespace

at::Device choose_device(const std::string& device) {
  const int num_gpus = static_cast<int>(torch::cuda::device_count());
  if (device == "auto") return num_gpus > 0 ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU);
  if (device == "cpu") return at::kCPU;
  const int index = gpu_index(device);
  if (index < 0) {
    throw UsageError(fmt::format("device: expected auto, cpu, cuda or cuda:N, found '{}'", device));
  }
  if (index >= num_gpus) {
    fail("device '{}': {}", device,
         num_gpus > 0 ? fmt::format("this machine shows {} GPU(s)", num_gpus)
                      : "no GPU is visible to this build (see tigon --version)");
  }
  return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(index));
}

at::ScalarType choose_dtype(const std::string& dtype, const at::Device& device) {
  if (dtype == "float32") return at::kFloat;
  if (dtype == "bfloat16") return at::kBFloat16;
  if (dtype == "auto") return device.is_cuda() ? at::kBFloat16 : at::kFloat;
  throw UsageError(fmt::format("dtype: expected auto, float32 or bfloat16, found '{}'", dtype));
}

std::string device_name(const at::Device& device) {
  return device.is_cuda() ? gpu_name(device.index()) : processor_name();
}

}  // namespace tigon
