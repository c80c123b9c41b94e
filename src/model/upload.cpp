#include "model/upload.h"

#include <ATen/ATen.h>

namespace tigon {

at::Tensor upload(const std::vector<int64_t>& values, at::Device device) {
  return at::tensor(values, at::kLong).to(device, at::kLong, /*non_blocking=*/true);
}

}  // namespace tigon
