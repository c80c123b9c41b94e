// Which sequence and which KV head a block of a decode step works on, and the few numbers at a time
// that it loads.
#pragma once
#include <cstdio>

#include "ops/decode_step/decode_step_params.h"
#include "ops/lane_sums.cuh"
#include "ops/vectors.cuh"

namespace tigon::cuda {

struct StepPlace {
  int64_t sequence;
  int64_t slot;
  int64_t position;  // of the new token
  int newest_row;    // of the ring, which takes the new key; until then the key that leaves
  int rows;          // of the ring that hold a key of the window, the new one included

  __device__ bool has_leaving_key(int window_keys) const { return position >= window_keys; }
  /// Position of the key in a row below `rows`, once the new one is there.
  __device__ int64_t position_of(int row) const {
    return position - (newest_row >= row ? newest_row - row : newest_row - row + rows);
  }
};

/// A number that cannot be ends the process's work on the GPU: looking at it on the host would
/// stall the queue.
__device__ inline void check_number(const char* name, int64_t number, int64_t most) {
  if (number >= 0 && number <= most) return;
  if (threadIdx.x == 0) {
    printf("[decode step] %s: expected numbers from 0 to %lld, found %lld\n", name,
           static_cast<long long>(most), static_cast<long long>(number));
  }
  __trap();
}

__device__ inline int64_t slot_of(const DecodeStepParams& p, int64_t sequence) {
  const int64_t slot = p.slots == nullptr ? sequence : p.slots[sequence];
  check_number("slots", slot, p.slot_count - 1);
  return slot;
}

__device__ inline StepPlace place_of(const DecodeStepParams& p, int64_t sequence) {
  StepPlace place;
  place.sequence = sequence;
  place.slot = slot_of(p, sequence);
  place.position = p.positions[sequence];
  check_number("positions", place.position, INT64_MAX);
  place.newest_row = static_cast<int>(place.position % p.window_keys);
  place.rows = static_cast<int>(min(place.position + 1, int64_t{p.window_keys}));
  return place;
}

/// A head's D numbers of a token.
template <typename T>
__device__ const T* token_head(const DecodeHeads& x, int64_t sequence, int head) {
  return static_cast<const T*>(x.data) + sequence * x.token_stride + head * x.head_stride;
}

/// A KV head's D numbers in a row of a slot's ring.
template <typename T>
__device__ T* ring_row(void* ring, const DecodeStepParams& p, int64_t slot, int row, int kv_head) {
  return static_cast<T*>(ring) + ((slot * p.window_keys + row) * p.kv_heads + kv_head) * p.head_dim;
}

/// Four neighbours, as they lie in memory at a multiple of four numbers.
template <typename T>
struct FourNumbers;

template <>
struct FourNumbers<float> {
  float4 numbers;
  __device__ void load(const float* address) {
    numbers = *reinterpret_cast<const float4*>(address);
  }
  __device__ float4 widen() const { return numbers; }
};

template <>
struct FourNumbers<__nv_bfloat16> {
  uint2 words;
  __device__ void load(const __nv_bfloat16* address) {
    words = *reinterpret_cast<const uint2*>(address);
  }
  __device__ float4 widen() const {
    const float2 first = Conversion<__nv_bfloat16>::widen_pair(words.x);
    const float2 second = Conversion<__nv_bfloat16>::widen_pair(words.y);
    return make_float4(first.x, first.y, second.x, second.y);
  }
};

template <typename T>
__device__ float4 load_four(const T* address) {
  FourNumbers<T> four;
  four.load(address);
  return four.widen();
}

}  // namespace tigon::cuda
