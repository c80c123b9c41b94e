// The element types the kernels are compiled for. Seen by nvcc: no Torch header.
#pragma once
#include <cstdint>

namespace tigon {

enum class ElementType : int32_t { kFloat32, kBFloat16, kFloat16 };

/// Row sizes that every kernel working in 16-byte pieces takes are multiples of this, whatever the
/// element type: 8 numbers of 16 bits are 16 bytes.
inline constexpr int64_t kVectorMultiple = 8;

}  // namespace tigon
