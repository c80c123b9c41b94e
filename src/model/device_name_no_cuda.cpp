// Built instead of device_name_cuda.cpp where there is no CUDA.
#include "model/device.h"

namespace tigon {

std::string gpu_name(int) {
  return "no GPU in this build";
}

}  // namespace tigon
