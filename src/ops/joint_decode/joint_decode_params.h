// What the kernels of joint_decode are called with: plain structures, no Torch.
#pragma once
#include "ops/decode_step/decode_step_params.h"

namespace tigon::cuda {

struct JointDecodeParams {
  DecodeStepParams step;        // matrices [slots, Hkv, E, D+1]
  bool second_order;            // or softmax([z; −z])
  int numbers;                  // R of z; of softmax D
  int channels;                 // E, a multiple of 4; of softmax 2D
  const float *w_q, *b_q;       // [H, D, R], [H, R]
  const float *w_k, *b_k;       // [Hkv, D, R], [Hkv, R]
  const float* log_importance;  // [S, Hkv] of the new keys
  const float* log_mix;         // [S, H]
  const float* log_tau;         // [Hkv, E]
  float* ring_log_importance;   // [slots, W, Hkv]
  // From the first kernel to the second.
  float* query_logits;            // [S, H, R]: q w_q + b_q
  float* key_logits;              // [S, Hkv, R]: the same of the keys that leave their window
  float* leaving_log_importance;  // [S, Hkv]
};

/// All but matrices, the rings of keys and values and out: the logits of the feature maps, and the
/// log-importance of the keys that leave; the new ones take their rows.
cudaError_t launch_joint_decode_maps(const JointDecodeParams& params, cudaStream_t stream);
/// The rest.
cudaError_t launch_joint_decode(const JointDecodeParams& params, cudaStream_t stream);

}  // namespace tigon::cuda
