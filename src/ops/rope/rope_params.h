// What the rope kernel is called with. N tokens of H heads of D numbers; D is a multiple of
// 2 · kVectorMultiple and at most kRopeLargestHead, H · D at most INT32_MAX, every pointer and
// every stride (in elements) of x one of 16 bytes, the last dimension dense.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "ops/element_type.h"

namespace tigon {

struct RopeParams {
  ElementType type;
  int64_t tokens, heads, head_size;  // N, H, D
  const void* x;                     // [N, H, D]
  int64_t x_token_stride, x_head_stride;
  const int64_t* positions;          // [N] contiguous
  const float* inverse_frequencies;  // [D/2] contiguous
  float scale;                       // of cos and sin
  bool is_inverse;                   // turns the other way: the gradient
  void* out;                         // [N, H, D] contiguous
};

/// Tokens of a block of 256 threads: with heads of 64 in bfloat16 that is one angle a thread, and
/// with 8 KV heads one pair of vectors a thread.
inline constexpr int kRopeTokens = 8;
/// A block's table of cos and sin, kRopeTokens · D/2 of both, is 32 KiB at this size.
inline constexpr int64_t kRopeLargestHead = 1024;

cudaError_t launch_rope(const RopeParams& params, cudaStream_t stream);

}  // namespace tigon
