// Liger's family: a softmax window and a gated recurrence whose gate is read from the keys,
// averaged. The variants differ in the gate, in what is written and in the feature maps.
#pragma once
#include <memory>
#include <string_view>

#include "model/mixer.h"

namespace tigon {

enum class LigerVariant { kHgrn2, kGsa, kMamba2, kMlstm, kRetention, kRwkv6 };

struct LigerMixerOptions {
  LigerVariant variant = LigerVariant::kHgrn2;
  int64_t window_keys = 64;
  double gate_normalizer = 1;               // n below; 1 is published for HGRN2, 16 for GSA
  double mix = 0.5;                         // the recurrence's share of the output
  double lower_bound = 0;                   // γ of kHgrn2, at least 0 and below 1
  int64_t slots = 64;                       // of kGsa; divides the head size or is a multiple of it
  at::ScalarType state_dtype = at::kFloat;  // or bfloat16: of the matrices between tokens
};

/// (1 − mix) · window + mix · recurrence, everything but the window on q and k before RoPE. Per KV
/// head, with φ the softmax over the head dimension, σ the logistic function, k̄ the mean over a
/// head's channels and n = gate_normalizer:
///   S_t = diag(a_t) S_{t−1} + w_tᵀ v_t,   o_t = φ(q_t) S_t
///   kHgrn2             a = (γ + (1−γ) σ(k))^{1/n} per channel,    w = 1 − a
///   kMamba2            a = e^{−softplus(k̄)/n}, one for a head,   w = φ(k)
///   kMlstm, kRetention a = σ(k̄)^{1/n}, one for a head,           w = φ(k)
///   kRwkv6             a = e^{−e^k/n} per channel (e^k/n at most 100), w = φ(k)
/// kGsa has M = slots, s = 1 − a and a = σ(pool(k))^{1/n} per slot, pool the mean of D/M
/// neighbouring channels (each channel M/D times if M is larger); no map on q, k, v and no scale:
///   K̃_t = diag(a_t) K̃_{t−1} + s_tᵀ k_t,   Ṽ_t = diag(a_t) Ṽ_{t−1} + s_tᵀ v_t
///   o_t = softmax(K̃_t q_t) Ṽ_t
/// The published mLSTM and gated retention have the same gate here: they are one mixer under two
/// names. No parameters. The state is the ring of the window and per KV head S [D, D] or
/// K̃ and Ṽ [M, D]. Without the recurrence it is the plain window mixer.
std::shared_ptr<const Mixer> make_liger_mixer(const HeadShape& shape,
                                              const LigerMixerOptions& options);

/// "liger-hgrn2", "liger-gsa", …: the mixer's kind and its recipe's name.
std::string_view liger_variant_name(LigerVariant variant);

}  // namespace tigon
