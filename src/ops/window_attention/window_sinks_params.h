// What the kernels of window_attention's sinks and their host side share: no Torch.
//
// N queries, M keys, H query heads, Hkv key/value heads, C chunks of 64 queries of one segment.
// A sink is one of a segment's first keys that lies outside the window of a query.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "ops/chunks/chunk_layout.h"
#include "ops/element_type.h"

namespace tigon::cuda {

inline constexpr int kMostSinks = 16;

struct WindowSinksParams {
  ElementType type;               // of all tensors that are not float32
  const void *q, *k, *v;          // [N, H, D], [M, Hkv, D], contiguous
  const int32_t* cu_seqlens;      // [S + 1] of the queries
  const int32_t* key_cu_seqlens;  // [S + 1]
  const int32_t* chunk_offsets;   // [S + 1]
  const Chunk* chunks;            // [C]
  int64_t tokens;                 // N
  int chunk_count, segments, heads, kv_heads, head_dim;
  int window_keys, sinks;  // sinks ≤ kMostSinks
  float scale;

  // Forward: of the window alone, becomes that of window and sinks.
  void* out;   // [N, H, D]
  float* lse;  // [H, N]

  // Backward.
  const void* out_gradient;       // [N, H, D]
  const float* lse_gradient;      // [N, H] or null
  void* q_gradient;               // [N, H, D], has the window's part
  void *k_gradient, *v_gradient;  // [M, Hkv, D], have the window's part
  // Between the backward kernels.
  float* probabilities;    // [N, H, sinks]: P
  float* score_gradients;  // [N, H, sinks]: dS · scale
  float* key_sums;         // [C, Hkv, sinks, D]: a chunk's part of dk
  float* value_sums;       // [C, Hkv, sinks, D]
};

/// out and lse of the window → of window and sinks.
cudaError_t launch_window_sinks_fwd(const WindowSinksParams& params, cudaStream_t stream);
/// Adds the sinks' part to the three gradients; out and lse are those of window and sinks.
cudaError_t launch_window_sinks_bwd(const WindowSinksParams& params, cudaStream_t stream);

}  // namespace tigon::cuda
