// LoLCATs: a softmax window, and linear attention with learned feature maps over all keys before
// it, under one denominator.
#pragma once
#include <memory>

#include "model/mixer.h"

namespace tigon {

struct LolcatsMixerOptions {
  enum class FeatureMap { kHedgehog, kT2r };
  enum class WindowForm { kTerrace, kSliding };
  enum class Init { kIdentity, kKaiming };

  FeatureMap feature_map = FeatureMap::kHedgehog;
  int64_t feature_dim = 64;  // f: a hedgehog map has 2f channels, a T2R map f
  Init init = Init::kIdentity;
  WindowForm window_form = WindowForm::kTerrace;
  int64_t window_keys = 64;           // w
  bool has_key_map_per_query = true;  // as published; else one a KV head, which shares its state
  double window_logit = -2.1972;      // at first: g = 0.1
  bool has_affine_factors = false;    // l = 1 − g instead of 1
  uint64_t seed = 1;                  // of kKaiming's random maps
  at::ScalarType state_dtype = at::kFloat;  // or bfloat16: of the matrices between tokens
};

/// With s_ij = RoPE(q_i)·RoPE(k_j)/√D, the window W_i of query i, c_i = max over W_i of s_ij,
/// g = σ(window_logit) per head and l = 1 (1 − g with affine factors):
///   o_i = (g Σ_W e^{s_ij − c_i} v_j + l Σ_before φq_i·φk_j v_j)
///         / (g Σ_W e^{s_ij − c_i} + l Σ_before φq_i·φk_j)
/// kSliding: W_i holds the last w keys, itself included. kTerrace: the block of w tokens that i is
/// in, counted from the start of the sequence, up to i, and the whole block before it.
/// Features of the rotated q and k, per head, each channel at least 1e-12:
///   kHedgehog [softmax(x w); softmax(−x w)],   kT2r ReLU(x w + b)
///
/// Parameters, float32 on `device` and the mixer's own; X = H, or Hkv without a key map per query:
///   w_q [H, D, f], w_k [X, D, f]  kIdentity: ones on the diagonal, b = 0; kKaiming: uniform in
///                                 ±√(6/(D·f)), b = 0
///   b_q [H], b_k [X]              of kT2r, one number a head
///   window_logit [H]
/// The state is a ring (w keys; terrace: 2w − 1, as blocks leave it whole) and one matrix
/// [features, D+1] for each key map, the last column for the denominator. Without the recurrence it
/// is the window alone, and has no parameters.
std::shared_ptr<const Mixer> make_lolcats_mixer(const HeadShape& shape,
                                                const LolcatsMixerOptions& options,
                                                at::Device device);

}  // namespace tigon
