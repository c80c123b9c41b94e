// Liger-GLA with another gate or other feature maps: what the published ablation varies.
#pragma once
#include <memory>

#include "model/mixer.h"

namespace tigon {

struct LigerAblationMixerOptions {
  enum class GateSource { kKeys, kQueries, kValues, kLearned, kNone };
  enum class FeatureMap { kSoftmax, kNone, kRelu, kElu, kHedgehog };
  enum class Init { kRandom, kIdentity };

  GateSource gate_source = GateSource::kKeys;
  FeatureMap feature_map = FeatureMap::kSoftmax;
  Init map_init = Init::kIdentity;  // of a hedgehog map
  uint64_t seed = 1;                // of random weights
  int64_t window_keys = 64;
  double gate_normalizer = 16;              // n below
  double mix = 0.5;                         // the recurrence's share of the output
  at::ScalarType state_dtype = at::kFloat;  // or bfloat16: of the matrix between tokens
};

/// (1 − mix) · window + mix · recurrence, everything but the window on q and k before RoPE. Per KV
/// head:
///   S_t = diag(a_t) S_{t−1} + φ(k_t)ᵀ v_t,   o_t = φ(q_t) S_t,   a_t = σ(g_t)^{1/n} per channel
/// g is k (as published), v, the mean of the head's group of queries, k w_gate, or a_t = 1.
///   kSoftmax  φ(x) = softmax(x) over the head dimension, as published
///   kNone, kRelu, kElu  x, ReLU(x), elu(x) + 1; queries are then scaled by 1/√D, as their products
///                       with keys are no averages
///   kHedgehog [softmax(x w); softmax(−x w)], 2D channels that share the gates of D
/// Parameters, float32 on `device` and the mixer's own:
///   w_gate [Hkv, D, D]                of kLearned, uniform in ±1/√D
///   w_q [H, D, D], w_k [Hkv, D, D]    of kHedgehog: identity, or uniform in ±√(6/D²)
/// The state is the ring of the window and one matrix [D or 2D, D] per KV head. Without the
/// recurrence it is the plain window mixer.
std::shared_ptr<const Mixer> make_liger_ablation_mixer(const HeadShape& shape,
                                                       const LigerAblationMixerOptions& options,
                                                       at::Device device);

}  // namespace tigon
