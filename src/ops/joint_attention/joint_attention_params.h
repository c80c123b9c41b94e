// What the kernels of joint_attention and their host side share: plain structures, no Torch.
//
// N tokens, S segments, H query heads, Hkv key/value heads, D head size, C chunks of 64 tokens
// (ops/chunks/chunk_layout.h), W chunks a window. A query of chunk c sees by softmax the keys of
// chunk c − W behind its own place, all of the chunks between and those of its own up to itself.
// What has left its window are the keys of chunk c − W up to its own place and all chunks before:
// its far part.
//
// Decays. a is fixed for a channel and at least exp(−1/8), so that over a chunk it may be split
// into two factors around the chunk's middle, of at most e^4 each. With r and s the places of query
// and key in their chunks, feature maps are kept as
//   Q' = φq a^(r − 32),   K' = φk a^(32 − s),
// and states as S' = a^33 S, S the state after the chunks before with the last key's decay 1:
//   N_i = Q'_i (S'_{c−W} + Σ_{s ≤ r} K'_s v_s),   S'_{c+1} = a^64 (S'_c + Σ_s K'_s v_s).
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "ops/chunks/chunk_layout.h"

namespace tigon::cuda {

/// The place in a chunk around which decays are split.
inline constexpr int kMiddlePlace = 32;
/// Tokens whose share of the weights' gradients one block sums.
inline constexpr int kSplitTokens = 1024;

/// Everything that the kernels of one call read or write; the first group is always there.
struct JointParams {
  HeadRows q, k, v;
  const int32_t* chunk_offsets;  // [S + 1]
  const Chunk* chunks;           // [C]
  const float* rotations;        // [N, D/2, 2]
  int64_t tokens;                // N
  int chunk_count, segments, heads, kv_heads, head_dim;
  int window_chunks;            // W ≥ 1
  float softmax_scale;          // 1/√D
  const float *w_q, *w_k;       // [H, D, D], [Hkv, D, D]
  const float *b_q, *b_k;       // [H, D], [Hkv, D]
  const float* log_importance;  // [N, Hkv] before the clip
  float longest_log_importance;
  const float* log_mix;  // [N, H]
  const float* log_tau;  // [Hkv, 2D]
  float least_log_tau;

  // Made of the parameters. Weights in bf16, each matrix cut into fragments of 16 × 16 numbers, row
  // after row, as the eight numbers of each lane of a warp: those of FragmentB
  // (ops/matrix_tiles.cuh).
  void *packed_w_q, *packed_w_k;
  void *transposed_w_q, *transposed_w_k;  // of the transposed matrices, or null
  float* log_decay;                       // [Hkv, 2D]: natural logarithm of a

  HeadRows mapped_keys;   // K' [N, Hkv, 2D]
  HeadRows rotated_keys;  // RoPE(k) [N, Hkv, D]
  // S' before each chunk; the last column, which belongs to the denominator, apart from the others.
  void* states;        // [C, Hkv, 2D, D] bf16
  float* masses;       // [C, Hkv, 2D]
  float* final_state;  // [S, Hkv, 2D, D + 1]

  // Forward.
  HeadRows out;
  float* log2_sum_exp;  // [N, H]: of the whole denominator, base 2
  float* far_weights;   // [N, H]: e^log_mix / denominator, 0 where there is no far part

  // Backward: the upstream gradient, then what is found.
  HeadRows out_gradient;
  HeadRows q_gradient, k_gradient, v_gradient;
  float* log_mix_gradient;         // [N, H]
  float* log_importance_gradient;  // [N, Hkv]
  // z = x w + b, from which φ is made.
  HeadRows query_logit_gradients;  // [N, H, D]
  HeadRows key_logit_gradients;    // [N, Hkv, D]
  // Sums over 1024 tokens each, queries' heads first.
  float* weight_gradients;  // [⌈N/1024⌉, H + Hkv, D, D]
  float* bias_gradients;    // [⌈N/1024⌉, H + Hkv, D]
  // The gradient of log_decay is the sum of all of these; the first two start at zero.
  float* query_decay_gradients;  // [C, 4, H, 2D]
  float* key_decay_gradients;    // [C, 4, Hkv, 2D]
  float* state_decay_gradients;  // [S, Hkv, 2D]
  // Between the backward kernels.
  HeadRows weighted_queries;  // [N, H, 2D]: Q' times the far weight, where there is a far part
  HeadRows rotated_queries;   // RoPE(q) [N, H, D]
  float* row_dots;            // [N, H]: do · o
  void* state_gradients;      // [C, Hkv, 2D, D] bf16, of Σ K' v of the chunk
  float* mass_gradients;      // [C, Hkv, 2D]
};

/// Bytes of shared memory a block needs for a head size, the largest of all kernels; −1 for a head
/// size without kernels.
int joint_shared_memory(int head_dim);

/// Weights and log_tau → packed weights, log_decay.
cudaError_t launch_joint_prepare(const JointParams& params, cudaStream_t stream);
/// k → mapped_keys, rotated_keys.
cudaError_t launch_joint_keys(const JointParams& params, cudaStream_t stream);
/// mapped_keys → states, masses, final_state.
cudaError_t launch_joint_states(const JointParams& params, cudaStream_t stream);
/// states, masses → out, log2_sum_exp, far_weights.
cudaError_t launch_joint_fwd(const JointParams& params, cudaStream_t stream);

/// states → q_gradient, query_logit_gradients, log_mix_gradient, query_decay_gradients, row_dots,
/// weighted_queries, rotated_queries.
cudaError_t launch_joint_bwd_queries(const JointParams& params, cudaStream_t stream);
/// weighted_queries, row_dots → state_gradients, mass_gradients, state_decay_gradients.
cudaError_t launch_joint_bwd_states(const JointParams& params, cudaStream_t stream);
/// rotated_queries, row_dots → k_gradient and v_gradient through the window.
cudaError_t launch_joint_bwd_window_keys(const JointParams& params, cudaStream_t stream);
/// All of the above → the far part's share of k_gradient and v_gradient, key_logit_gradients,
/// log_importance_gradient, key_decay_gradients.
cudaError_t launch_joint_bwd_far_keys(const JointParams& params, cudaStream_t stream);
/// Gradients of logits → weight_gradients, bias_gradients.
cudaError_t launch_joint_bwd_weights(const JointParams& params, cudaStream_t stream);

}  // namespace tigon::cuda
