// stochastic_round.h in kernels, bit for bit.
#pragma once
#include <cuda_bf16.h>

#include <cstdint>

namespace tigon::cuda {

__device__ inline uint32_t mixed_bits(uint32_t x) {
  x = (x ^ x >> 16) * 0x045d9f3bu;
  x = (x ^ x >> 16) * 0x045d9f3bu;
  return x ^ x >> 16;
}

/// The 16 random bits of each place of a part of a state that is kept after a token.
class RoundingBits {
 public:
  /// The part begins at `first_place` of the state, which is even.
  __device__ RoundingBits(int64_t position, uint32_t first_place)
      : key_(mixed_bits(static_cast<uint32_t>(position) + 0x9e3779b9u) + first_place / 2) {}
  /// For places 2·pair (the lower half) and 2·pair + 1 of the part.
  __device__ uint32_t of_pair(uint32_t pair) const { return mixed_bits(key_ + pair); }

 private:
  uint32_t key_;
};

/// The bits of a bfloat16, of random bits from 0 to 65535.
__device__ inline uint32_t stochastic_round(float x, uint32_t random) {
  constexpr uint32_t kExponent = 0x7f800000u;
  const uint32_t word = __float_as_uint(x);
  if ((word & kExponent) == kExponent) return __bfloat16_as_ushort(__float2bfloat16_rn(x));
  const uint32_t moved = word + random;
  return ((moved & kExponent) == kExponent ? word : moved) >> 16;
}

/// Two neighbours, the first at an even place, as they lie in memory.
__device__ inline uint32_t stochastic_round_pair(float first, float second, uint32_t random) {
  return stochastic_round(first, random & 0xffffu) | stochastic_round(second, random >> 16) << 16;
}

}  // namespace tigon::cuda
