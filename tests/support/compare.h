// Comparing tensors, with messages that name the tensor, the error and the worst element.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>

#include "io/safetensors.h"

namespace tigon::testing {

/// The device of this run: the CPU, or the GPU under TIGON_TEST_DEVICE=cuda.
at::Device test_device();

/// rms(found − expected) / rms(expected), in float64 on the CPU; infinity if a value is not finite
/// or shapes differ.
double relative_rms(const at::Tensor& found, const at::Tensor& expected);

/// Fails the test (CHECK) if relative_rms exceeds the tolerance; reports name, error, worst index
/// and both values.
void check_close(const std::string& name, const at::Tensor& found, const at::Tensor& expected,
                 double tolerance);
/// Fails unless dtype, shape and every bit are equal.
void check_bitwise(const std::string& name, const at::Tensor& found, const at::Tensor& expected);

/// Judges a low-precision result by a plain version run in the same precision, both against a wide
/// reference: err(found) ≤ kLowPrecisionFactor · err(plain) + kLowPrecisionUlps ulps of found's
/// dtype.
void check_low_precision(const std::string& name, const at::Tensor& found, const at::Tensor& plain,
                         const at::Tensor& reference);

/// A tensor of a safetensors file, on the test device.
at::Tensor golden(const SafetensorsFile& file, const std::string& name);

/// Normal random numbers that are the same on every device and machine.
at::Tensor random_tensor(at::IntArrayRef shape, uint64_t seed, at::ScalarType dtype = at::kFloat);

}  // namespace tigon::testing
