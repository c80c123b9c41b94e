// liger_attention for one new token of each of many sequences, from and into a state.
//   o = (1−mix)·softmax(RoPE(q)·RoPE(k)/√D) v + mix·φ(q) S   over the ring, the new key included
//   S ← diag(a) S + φ(k)ᵀ v,   a = σ(k)^{1/gate_normalizer},   φ = softmax over the head dimension
#pragma once
#include "ops/decode_step/decode_step.h"

namespace tigon {

struct LigerDecodeOptions {
  double gate_normalizer = 16;
  double mix = 0.5;  // the recurrence's share
};

/// → [S, H, D], dtype of q. The state's matrices are [slots, Hkv, D, D]; they and the rings are
/// changed in place. Feature maps, gates, window and recurrence run in float32 (float64 for float64
/// inputs). There is no gradient: an input that requires one is refused.
at::Tensor liger_decode(const DecodeTokens& tokens, const DecodeState& state,
                        const LigerDecodeOptions& options);

}  // namespace tigon
