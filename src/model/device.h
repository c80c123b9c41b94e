// Which device and element type a run uses, and what the device is called.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>

namespace tigon {

/// "auto" (the first GPU if there is one), "cpu", "cuda" or "cuda:N". Another word throws
/// UsageError, a GPU that is not there Error.
at::Device choose_device(const std::string& device);

/// "auto" (bfloat16 on a GPU, float32 on the CPU), "float32" or "bfloat16".
at::ScalarType choose_dtype(const std::string& dtype, const at::Device& device);

/// The marketing name of a GPU, or of the processor.
std::string device_name(const at::Device& device);
/// Name of GPU `index`; built from device_name_cuda.cpp, or device_name_no_cuda.cpp without CUDA.
std::string gpu_name(int index);

}  // namespace tigon
