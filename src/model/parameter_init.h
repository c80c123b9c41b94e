// Initial values of parameters that mixers bring.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

#include "core/random.h"

namespace tigon {

/// Float32 numbers uniform in ±bound, the same on every machine and device. On the meta device
/// nothing is drawn.
at::Tensor uniform_parameter(at::IntArrayRef shape, double bound, uint64_t seed, at::Device device);

}  // namespace tigon
