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

/// The random bits of a number, from 0 to 65535, or none where there is no way up: next to
/// infinity, at it, and for NaN.
__device__ inline uint32_t bits_upwards(float x, uint32_t random) {
  constexpr uint32_t kLargest = 0x7f7f0000u;  // of bfloat16
  return (__float_as_uint(x) & 0x7fffffffu) < kLargest ? random : 0;
}

/// Four neighbours as bfloat16 in memory, of the random words of their two pairs. A NaN is one of
/// arithmetic, whose upper half is one too.
__device__ inline uint2 stochastic_round(float4 x, uint32_t first, uint32_t second) {
  uint32_t random[4] = {first & 0xffffu, first >> 16, second & 0xffffu, second >> 16};
  // Nearly always all four are far from infinity.
  if (!(fabsf(x.x) + fabsf(x.y) + fabsf(x.z) + fabsf(x.w) < 1e38f)) {
    random[0] = bits_upwards(x.x, random[0]);
    random[1] = bits_upwards(x.y, random[1]);
    random[2] = bits_upwards(x.z, random[2]);
    random[3] = bits_upwards(x.w, random[3]);
  }
  constexpr unsigned kUpperHalves = 0x7632;
  return make_uint2(
      __byte_perm(__float_as_uint(x.x) + random[0], __float_as_uint(x.y) + random[1], kUpperHalves),
      __byte_perm(__float_as_uint(x.z) + random[2], __float_as_uint(x.w) + random[3],
                  kUpperHalves));
}

}  // namespace tigon::cuda
