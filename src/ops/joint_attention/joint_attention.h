// A softmax window and a linear recurrence over the tokens that have left it, under one
// denominator: the mixer of the recipe `tigon`.
//   φ(z) = softmax([z; −z]), or of second order [1; z; z_e z_f (e < f), z_e²/√2], so that
//   φ(x)·φ(y) = 1 + x·y + (x·y)²/2;   φq_i = φ(q_i w_q + b_q)
//   φk_j = e^{clip(log_importance_j, ±6)} φ(k_j w_k + b_k),   a = exp(−1 / max(8, e^{log_tau}))
//   S_i = diag(a) S_{i−1} + φk_{i−w} [v_{i−w}; 1]ᵀ,   w = window_keys
//   [N_i, Z_i] = φq_i S_i,   s_ij = RoPE(q_i)·RoPE(k_j)/√D,   b_i = e^{log_mix_i}
//   o_i = (Σ_window e^{s_ij} v_j + b_i N_i) / (Σ_window e^{s_ij} + b_i Z_i)
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>

#include "ops/segments.h"

namespace tigon {

/// What the recurrence of a layer adds to its attention. Floating-point of any dtype; float64
/// exactly if q is.
struct JointAttentionParameters {
  at::Tensor w_q, b_q;        // [H, D, R], [H, R]: z_e = Σ_d q_d w_q[d, e] + b_q[e]
  at::Tensor w_k, b_k;        // [Hkv, D, R], [Hkv, R]
  at::Tensor log_tau;         // [Hkv, E]: natural logarithm of the decay time in tokens
  bool second_order = false;  // whether φ is; softmax takes R = D numbers
};

/// E, the channels of φ.
constexpr int64_t joint_feature_channels(int64_t mapped_numbers, bool second_order) {
  return second_order ? (mapped_numbers + 1) * (mapped_numbers + 2) / 2 : 2 * mapped_numbers;
}

struct JointAttentionInputs {
  at::Tensor q;                    // [N, H, D] before RoPE
  at::Tensor k, v;                 // [M, Hkv, D] before RoPE, dtype of q
  at::Tensor key_positions;        // [M] int64
  at::Tensor inverse_frequencies;  // [D/2] float32
  at::Tensor log_importance;       // [M, Hkv] before the clip; float64 exactly if q is
  at::Tensor log_mix;              // [N, H] natural logarithm of the recurrence's weight; likewise
};

struct JointAttentionOptions {
  int64_t window_keys = 64;  // keys a token sees by softmax, itself included
  double rope_scale = 1;     // multiplies cos and sin
};

struct JointAttentionResult {
  at::Tensor out;    // [N, H, D], dtype of q
  at::Tensor state;  // [S, Hkv, E, D+1] float32 (float64 for float64 inputs); the last column
                     // belongs to the denominator
};

/// As in window_attention, a segment's queries are the last of its keys. A key enters the state at
/// the step at which it leaves the window: with keys before a segment's first query (the ring of
/// the last window_keys keys, with their log-importance; fewer only where the sequence has no
/// more), those that leave while these queries are processed enter, and initial_state
/// [S, Hkv, E, D+1] (zeros if none) holds all before them. The returned state lacks the last
/// window_keys keys. A step at which no key leaves does not decay the state. Everything runs in
/// float32 (float64 for float64 inputs) and is rounded once, and
///   o = o_window + σ(log_mix + log Z − lse) (N/Z − o_window),   lse = log Σ_window e^{s_ij},
/// which no log_mix or log_importance overflows. There is no recurrent part where Z < 1e−30
/// (of second order, whose channels decay apart, it may be below 0).
/// Gradients: q, k, v, log_importance, log_mix, all parameters and initial_state.
JointAttentionResult joint_attention(const JointAttentionInputs& inputs,
                                     const JointAttentionParameters& parameters,
                                     const Segments& segments, const Segments& key_segments,
                                     const JointAttentionOptions& options,
                                     const std::optional<at::Tensor>& initial_state = std::nullopt);

}  // namespace tigon
