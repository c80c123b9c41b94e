// What the kernels of liger_attention and their host side share: plain structures, no Torch.
//
// N tokens, H query heads, Hkv key/value heads, D head size, C chunks (ops/chunks/chunk_layout.h).
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "ops/chunks/chunk_layout.h"

namespace tigon::cuda {

/// A query meets its own sub-chunk of 16 tokens and the four before it: 65 keys for the first
/// of 16.
inline constexpr int kMaxWindowKeys = 65;

/// Decays that lead a state through a chunk: from its start to the middle of the first sub-chunk of
/// 16 tokens, from middle to middle, and from the last middle to its end.
inline constexpr int kLinks = 5;

/// Everything that the kernels of one call read or write; the first group is always there.
struct LigerParams {
  HeadRows q, k, v;
  const int32_t* chunk_offsets;  // [S + 1]
  const Chunk* chunks;           // [C]
  const float* rotations;        // [N, D/2, 2]
  int chunk_count, segments, heads, kv_heads, head_dim;
  int window_keys;             // 1 to kMaxWindowKeys
  float softmax_scale;         // 1/√D
  float inverse_normalizer;    // 1/gate_normalizer
  float mix;                   // the recurrence's share
  const float* initial_state;  // [S, Hkv, D, D] or null (zeros)

  // Made of the keys, chunk by chunk; of tokens behind a chunk's end φ(k) and RoPE(k) are 0.
  void* rotated_keys;    // [C, Hkv, 64, D] bf16: RoPE(k)
  void* keys_to_middle;  // [C, Hkv, 64, D] bf16: φ(k) times its decay to the sub-chunk's middle
  void* from_middle;     // [C, Hkv, 64, D] bf16: decay from the sub-chunk's middle
  float* links;          // [C, Hkv, 5, D]
  float* decays;         // [C, Hkv, D]: of the whole chunk

  void* states;        // [C, Hkv, D, D] bf16, before each chunk
  float* final_state;  // [S, Hkv, D, D]

  HeadRows out;  // forward

  // Backward: upstream gradients (of the final state: or null), then what is found.
  HeadRows out_gradient;
  const float* final_state_gradient;  // [S, Hkv, D, D]
  HeadRows q_gradient, k_gradient, v_gradient;
  float* initial_state_gradient;  // [S, Hkv, D, D] or null
  // Between the backward kernels.
  void* state_gradient_additions;  // [C, Hkv, D, D] bf16
  void* state_gradients;           // [C, Hkv, D, D] bf16, of the state after each chunk
  float* decay_gradients;          // [C, Hkv, D], of the logarithm of a chunk's decay
  void* query_gate_gradients;      // [N, H, D] bf16: φ(q) ⊙ dφ(q)
  float* log2_sum_exp;             // [N, H] of the window's softmax, base 2
  float* row_dots;                 // [N, H] Σ P·dP of the window's softmax
};

/// Bytes of shared memory a block needs for a head size, the largest of all kernels; −1 for a head
/// size without kernels.
int liger_shared_memory(int head_dim);

/// k → rotated_keys, keys_to_middle, from_middle, links, decays.
cudaError_t launch_liger_key_tiles(const LigerParams& params, cudaStream_t stream);
/// keys_to_middle, links → states, final_state.
cudaError_t launch_liger_states(const LigerParams& params, cudaStream_t stream);
/// Key tiles, states → out.
cudaError_t launch_liger_fwd(const LigerParams& params, cudaStream_t stream);
/// Key tiles, states → q_gradient, query_gate_gradients, log2_sum_exp, row_dots.
cudaError_t launch_liger_bwd_queries(const LigerParams& params, cudaStream_t stream);
/// states → state_gradients, decay_gradients, initial_state_gradient.
cudaError_t launch_liger_bwd_states(const LigerParams& params, cudaStream_t stream);
/// All of the above → k_gradient, v_gradient.
cudaError_t launch_liger_bwd_keys(const LigerParams& params, cudaStream_t stream);
/// The same by Hopper's own instructions (compute capability 9.0): whether this build has it for a
/// head size, and its launch.
bool has_liger_bwd_keys_hopper(int head_dim);
cudaError_t launch_liger_bwd_keys_hopper(const LigerParams& params, cudaStream_t stream);

}  // namespace tigon::cuda
