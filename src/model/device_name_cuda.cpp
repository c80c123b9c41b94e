#include <cuda_runtime_api.h>

#include "model/device.h"

namespace tigon {

std::string gpu_name(int index) {
  cudaDeviceProp properties;
  if (cudaGetDeviceProperties(&properties, index) != cudaSuccess) return "unknown GPU";
  return properties.name;
}

}  // namespace tigon
