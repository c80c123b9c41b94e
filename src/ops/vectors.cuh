// 16-byte loads and stores of float32, bfloat16 or float16 elements, which kernels see as float32
// values.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "ops/element_type.h"

namespace tigon {

/// The float32 values of 16 bytes of T.
template <typename T>
struct FloatVector {
  static constexpr int kCount = 16 / sizeof(T);
  float values[kCount];
  __device__ float& operator[](int i) { return values[i]; }
  __device__ float operator[](int i) const { return values[i]; }
};

/// How one number, and two in 32 bits, become float32 and are rounded to nearest even.
template <typename T>
struct Conversion;

template <>
struct Conversion<float> {
  __device__ static float widen(float value) { return value; }
  __device__ static float round(float value) { return value; }
};

template <>
struct Conversion<__nv_bfloat16> {
  __device__ static float widen(__nv_bfloat16 value) { return __bfloat162float(value); }
  __device__ static __nv_bfloat16 round(float value) { return __float2bfloat16_rn(value); }
  __device__ static float2 widen_pair(uint32_t word) {  // a bfloat16 is the upper half of a float32
    return make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u));
  }
  __device__ static uint32_t round_pair(float first, float second) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    return *reinterpret_cast<const uint32_t*>(&pair);
  }
};

template <>
struct Conversion<__half> {
  __device__ static float widen(__half value) { return __half2float(value); }
  __device__ static __half round(float value) { return __float2half_rn(value); }
  __device__ static float2 widen_pair(uint32_t word) {
    return __half22float2(*reinterpret_cast<const __half2*>(&word));
  }
  __device__ static uint32_t round_pair(float first, float second) {
    const __half2 pair = __floats2half2_rn(first, second);
    return *reinterpret_cast<const uint32_t*>(&pair);
  }
};

template <typename T>
__device__ float to_float(T value) {
  return Conversion<T>::widen(value);
}

template <typename T>
__device__ T from_float(float value) {
  return Conversion<T>::round(value);
}

/// The value that T can hold, to nearest even.
template <typename T>
__device__ float rounded(float value) {
  return to_float(from_float<T>(value));
}

/// `address` must be a multiple of 16 bytes, here and below.
__device__ inline FloatVector<float> load_vector(const float* address) {
  const float4 numbers = *reinterpret_cast<const float4*>(address);
  return {{numbers.x, numbers.y, numbers.z, numbers.w}};
}

/// Of a type of 16 bits.
template <typename T>
__device__ FloatVector<T> load_vector(const T* address) {
  const uint4 loaded = *reinterpret_cast<const uint4*>(address);
  const uint32_t words[4] = {loaded.x, loaded.y, loaded.z, loaded.w};
  FloatVector<T> result;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = Conversion<T>::widen_pair(words[i]);
    result[2 * i] = pair.x;
    result[2 * i + 1] = pair.y;
  }
  return result;
}

__device__ inline void store_vector(float* address, const FloatVector<float>& vector) {
  *reinterpret_cast<float4*>(address) = make_float4(vector[0], vector[1], vector[2], vector[3]);
}

/// Of a type of 16 bits.
template <typename T>
__device__ void store_vector(T* address, const FloatVector<T>& vector) {
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    words[i] = Conversion<T>::round_pair(vector[2 * i], vector[2 * i + 1]);
  }
  *reinterpret_cast<uint4*>(address) = make_uint4(words[0], words[1], words[2], words[3]);
}

/// Calls `launch` with a zero of the element type.
template <typename Launch>
cudaError_t for_element_type(ElementType type, Launch launch) {
  switch (type) {
    case ElementType::kFloat32:
      return launch(float{});
    case ElementType::kBFloat16:
      return launch(__nv_bfloat16{});
    case ElementType::kFloat16:
      return launch(__half{});
  }
  return cudaErrorInvalidValue;
}

}  // namespace tigon
