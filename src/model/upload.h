// Small index tensors from the host to a device.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace tigon {

/// A new [size] int64 tensor. The copy does not wait for work queued on the device.
at::Tensor upload(const std::vector<int64_t>& values, at::Device device);

}  // namespace tigon
