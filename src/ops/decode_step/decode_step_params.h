// What the kernels of a decode step read and write, whatever the recurrence: plain structures, no
// Torch.
//
// S sequences with one new token each, H query heads, Hkv key/value heads, D head size, W rows of a
// ring. Position t of a sequence lies in row t mod W.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "ops/element_type.h"

namespace tigon::cuda {

/// D is a multiple of 8 up to this: a key is turned by up to 16 threads, 8 numbers each.
inline constexpr int kDecodeLargestHead = 128;
/// W at most: the softmax weights of 8 heads then take 16 KiB.
inline constexpr int kDecodeMostKeys = 512;

/// [S, heads, D], every head at a multiple of 16 bytes.
struct DecodeHeads {
  const void* data;
  int64_t token_stride, head_stride;  // elements
};

struct DecodeStepParams {
  ElementType type;         // of q, k, v, the rings and out: float32 or bfloat16
  ElementType matrix_type;  // the same choice
  int64_t sequences;
  int heads, kv_heads, head_dim, window_keys;
  DecodeHeads q, k, v;               // before RoPE
  const int64_t* positions;          // [S] of the new tokens
  const float* inverse_frequencies;  // [D/2]
  float rope_scale;
  const int64_t* slots;  // [S], or null: sequence s is in slot s
  int64_t slot_count;
  void* ring_keys;    // [slots, W, Hkv, D], before RoPE
  void* ring_values;  // [slots, W, Hkv, D]
  void* matrices;     // [slots, Hkv, rows, columns]
  void* out;          // [S, H, D]
};

}  // namespace tigon::cuda
