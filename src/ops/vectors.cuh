// 16-byte loads and stores of float32 or bfloat16 elements, which kernels see as float32 values.
#pragma once
#include <cuda_bf16.h>

#include <cstdint>

namespace tigon {

/// The float32 values of 16 bytes of T.
template <typename T>
struct FloatVector {
  static constexpr int kCount = 16 / sizeof(T);
  float values[kCount];
  __device__ float& operator[](int i) { return values[i]; }
  __device__ float operator[](int i) const { return values[i]; }
};
static_assert(FloatVector<float>::kCount == 4 && FloatVector<__nv_bfloat16>::kCount == 8);

__device__ inline float to_float(float value) {
  return value;
}
__device__ inline float to_float(__nv_bfloat16 value) {
  return __bfloat162float(value);
}

template <typename T>
__device__ T from_float(float value);
template <>
__device__ inline float from_float<float>(float value) {
  return value;
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

/// The value that T can hold, to nearest even.
template <typename T>
__device__ float rounded(float value) {
  return to_float(from_float<T>(value));
}

/// `address` must be a multiple of 16 bytes, here and below.
__device__ inline FloatVector<float> load_vector(const float* address) {
  const float4 words = *reinterpret_cast<const float4*>(address);
  return {{words.x, words.y, words.z, words.w}};
}

__device__ inline FloatVector<__nv_bfloat16> load_vector(const __nv_bfloat16* address) {
  const uint4 loaded = *reinterpret_cast<const uint4*>(address);
  const uint32_t words[4] = {loaded.x, loaded.y, loaded.z, loaded.w};
  FloatVector<__nv_bfloat16> result;
#pragma unroll
  for (int i = 0; i < 4; ++i) {  // a bfloat16 is the upper half of a float32
    result[2 * i] = __uint_as_float(words[i] << 16);
    result[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
  return result;
}

__device__ inline void store_vector(float* address, const FloatVector<float>& vector) {
  *reinterpret_cast<float4*>(address) = make_float4(vector[0], vector[1], vector[2], vector[3]);
}

__device__ inline void store_vector(__nv_bfloat16* address,
                                    const FloatVector<__nv_bfloat16>& vector) {
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(vector[2 * i], vector[2 * i + 1]);
    words[i] = *reinterpret_cast<const uint32_t*>(&pair);
  }
  *reinterpret_cast<uint4*>(address) = make_uint4(words[0], words[1], words[2], words[3]);
}

}  // namespace tigon
