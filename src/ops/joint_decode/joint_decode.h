// joint_attention for one new token of each of many sequences, from and into a state. The notation
// is that of joint_attention; w is the number of the ring's rows.
//   S ← diag(a) S + φk [v; 1]ᵀ   for the key that leaves the window with the new token's coming;
//                                unchanged where the sequence has had fewer than w tokens
//   [N, Z] = φq S,   lse = log Σ_window e^s
//   o = o_window + σ(log_mix + log Z − lse) (N/Z − o_window)   over the ring, the new key included
#pragma once
#include "ops/decode_step/decode_step.h"
#include "ops/joint_attention/joint_attention.h"

namespace tigon {

/// What a token needs beside q, k and v; float64 exactly if q is.
struct JointDecodeLogits {
  at::Tensor log_importance;  // [S, Hkv] of the new keys, before the clip
  at::Tensor log_mix;         // [S, H]
};

/// → [S, H, D], dtype of q. The state's matrices are [slots, Hkv, E, D+1];
/// ring_log_importance [slots, w, Hkv] is float32 (float64 for float64 inputs). They and the rings
/// are changed in place. Everything runs in float32 (float64 for float64 inputs) and is rounded
/// once. There is no gradient: an input that requires one is refused.
at::Tensor joint_decode(const DecodeTokens& tokens, const JointDecodeLogits& logits,
                        const JointAttentionParameters& parameters, const DecodeState& state,
                        const at::Tensor& ring_log_importance);

}  // namespace tigon
