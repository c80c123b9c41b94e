// SUPRA: a linear recurrence in place of attention, with learned feature maps, fixed decays and a
// norm over each head. It has no window.
#pragma once
#include <memory>
#include <vector>

#include "model/mixer.h"

namespace tigon {

struct SupraMixerOptions {
  enum class Init { kPublished, kIdentity };
  enum class Maps { kAcrossHeads, kPerHead };
  enum class Decay { kPublished, kRetention, kNone, kLearned };
  enum class Normalizer { kGroupNorm, kDenominator, kBoth };

  Init init = Init::kPublished;
  Maps maps = Maps::kAcrossHeads;
  Decay decay = Decay::kPublished;
  Normalizer normalizer = Normalizer::kGroupNorm;
  bool has_affine = false;  // of the group norm
  double norm_eps = 1e-5;
  uint64_t seed = 1;                        // of kPublished's random maps
  at::ScalarType state_dtype = at::kFloat;  // or bfloat16: of the matrices between tokens
};

/// With H query heads, L KV heads and D channels a head:
///   fq = ReLU(w_q q + b_q),   fk = ReLU(w_k k + b_k)        on q and k before RoPE
///   S_t = γ_h S_{t−1} + (RoPE(fk_t)/√D)ᵀ v_t   per query head h,   o_t = RoPE(fq_t) S_t
///   kGroupNorm    out = (o − mean)/√(var + norm_eps) over each head's channels
///   kDenominator  out = o / max(fq_t·z_t, 1e-6),   z_t = γ_h z_{t−1} + fk_t/√D, without RoPE
///   kBoth         the norm of that quotient
/// Decays γ_h = e^{−slope_h}: kPublished slopes 2^{−8(h+1)/H} (for other H than powers of two those
/// of the power below, then every second one of the power above), kRetention γ = 1 − 2^{−5−h},
/// kNone γ = 1, kLearned as published at first.
///
/// Parameters, float32 on `device` and the mixer's own; rows are outputs, as in a linear layer:
///   w_q, b_q  [H·D, H·D], [H·D] (kAcrossHeads) or [H, D, D], [H, D] (kPerHead)
///   w_k, b_k  the same of the L KV heads; with L = H the maps of q serve k too and these are
///   absent log_slope [H] of kLearned;  norm_weight, norm_bias [H·D] of has_affine, 1 and 0 at
///   first
/// kPublished draws weights and biases uniformly from ±1/√(inputs of a map); kIdentity starts from
/// the identity and 0. The state is S [D, D] per query head (per KV head with kNone),
/// with kDenominator and kBoth z [D, 1] too.
std::shared_ptr<const Mixer> make_supra_mixer(const HeadShape& shape,
                                              const SupraMixerOptions& options, at::Device device);

/// The published slopes of `heads` heads.
std::vector<double> supra_slopes(int64_t heads);

}  // namespace tigon
