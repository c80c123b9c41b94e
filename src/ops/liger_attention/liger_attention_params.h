// What the kernels of liger_attention and their host side share: plain structures, no Torch.
//
// N tokens, H query heads, Hkv key/value heads, D head size, C chunks. A chunk is 64 tokens of one
// segment, counted from the segment's start; only a segment's last chunk may be shorter. Nothing
// depends on where a segment lies in the batch.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace tigon::cuda {

inline constexpr int kChunkTokens = 64;
/// A query meets its own sub-chunk of 16 tokens and the four before it: 65 keys for the first
/// of 16.
inline constexpr int kMaxWindowKeys = 65;

struct LigerChunk {
  int32_t first_token;
  int32_t length;  // 1 to 64
  int32_t segment;
  int32_t is_first;  // of its segment
};

/// Where each segment's chunks start, the chunks, and cos and sin of every token.
struct LigerLayoutParams {
  const int32_t* cu_seqlens;         // [S + 1]
  const int64_t* positions;          // [N]
  const float* inverse_frequencies;  // [D/2]
  float rope_scale;
  int64_t tokens;
  int segments, head_dim;
  int32_t* chunk_offsets;  // [S + 1]
  LigerChunk* chunks;      // [C]
  float* rotations;        // [N, D/2, 2]: cos, sin
};

/// bf16 tokens of one head size; heads of a token lie next to each other.
struct LigerTokens {
  void* data;            // [N, heads, D] bf16, 16-byte aligned
  int64_t token_stride;  // elements, a multiple of 8
};

/// Everything that the kernels of one call read or write; the first group is always there.
struct LigerParams {
  LigerTokens q, k, v;
  const int32_t* chunk_offsets;  // [S + 1]
  const LigerChunk* chunks;      // [C]
  const float* rotations;        // [N, D/2, 2]
  int chunk_count, segments, heads, kv_heads, head_dim;
  int window_keys;             // 1 to kMaxWindowKeys
  float softmax_scale;         // 1/√D
  float inverse_normalizer;    // 1/gate_normalizer
  float mix;                   // the recurrence's share
  const float* initial_state;  // [S, Hkv, D, D] or null (zeros)

  // Chunk states: what a chunk adds, its decay, and the state before it.
  float* additions;    // [C, Hkv, D, D]
  float* decays;       // [C, Hkv, D]
  void* states;        // [C, Hkv, D, D] bf16
  float* final_state;  // [S, Hkv, D, D]

  LigerTokens out;  // forward

  // Backward: upstream gradients (of the final state: or null), then what is found.
  LigerTokens out_gradient;
  const float* final_state_gradient;  // [S, Hkv, D, D]
  LigerTokens q_gradient, k_gradient, v_gradient;
  float* initial_state_gradient;  // [S, Hkv, D, D] or null
  // Between the backward kernels.
  float* state_gradient_additions;  // [C, Hkv, D, D]
  void* state_gradients;            // [C, Hkv, D, D] bf16, of the state after each chunk
  float* decay_gradients;           // [C, Hkv, D], of the logarithm of a chunk's decay
  void* query_gate_gradients;       // [N, H, D] bf16: φ(q) ⊙ dφ(q)
  float* log2_sum_exp;              // [N, H] of the window's softmax, base 2
  float* row_dots;                  // [N, H] Σ P·dP of the window's softmax
};

/// Bytes of shared memory a block needs for a head size, the largest of all kernels; −1 for a head
/// size without kernels.
int liger_shared_memory(int head_dim);

/// The chunks alone: reads cu_seqlens and segments, writes chunk_offsets and chunks.
cudaError_t launch_chunks(const LigerLayoutParams& params, cudaStream_t stream);
/// Chunks and rotations.
cudaError_t launch_liger_layout(const LigerLayoutParams& params, cudaStream_t stream);

/// additions, decays → states, final_state.
cudaError_t launch_liger_states(const LigerParams& params, cudaStream_t stream);
/// states → out.
cudaError_t launch_liger_fwd(const LigerParams& params, cudaStream_t stream);
/// states → q_gradient, query_gate_gradients, log2_sum_exp, row_dots.
cudaError_t launch_liger_bwd_queries(const LigerParams& params, cudaStream_t stream);
/// states → state_gradients, decay_gradients, initial_state_gradient.
cudaError_t launch_liger_bwd_states(const LigerParams& params, cudaStream_t stream);
/// All of the above → k_gradient, v_gradient.
cudaError_t launch_liger_bwd_keys(const LigerParams& params, cudaStream_t stream);

}  // namespace tigon::cuda
