// The formulas of joint_attention that joint_decode has in common with it.
#pragma once
#include <ATen/core/Tensor.h>

#include <initializer_list>

#include "ops/joint_attention/joint_attention.h"

namespace tigon {

/// The clip of log_importance.
inline constexpr double kLongestLogImportance = 6;
/// The least e^log_tau, in tokens.
inline constexpr double kShortestDecayTime = 8;

/// Refuses a parameter or an input of other shape, device or precision: float64 exactly if q is.
void check_joint_input(const char* op, const char* name, const at::Tensor& x, const at::Tensor& q,
                       std::initializer_list<int64_t> shape);

/// Refuses maps that fit neither each other nor q [N, H, D] and Hkv heads of keys.
void check_joint_parameters(const char* op, const JointAttentionParameters& p, const at::Tensor& q,
                            int64_t kv_heads);

/// φ(z) of z = x w + b per head. x [N, H, D], w [H, D, R], b [H, R] → [N, H, E].
at::Tensor joint_feature_map(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b,
                             bool second_order);
at::Tensor joint_query_features(const at::Tensor& q, const JointAttentionParameters& p);
at::Tensor joint_key_features(const at::Tensor& k, const JointAttentionParameters& p);

/// e^{clip(log_importance, ±6)}, by which a key's features are multiplied; in `type`.
at::Tensor joint_importance(const at::Tensor& log_importance, at::ScalarType type);

/// [Hkv, 2D] → log a = −1 / max(8, e^{log_tau}), in `type`, written so that no e^{log_tau}
/// overflows.
at::Tensor joint_log_decay(const at::Tensor& log_tau, at::ScalarType type);

/// o_window + σ(log_mix + log Z − lse) (N/Z − o_window), and o_window where Z < 1e−30. near, lse:
/// o_window [N, H, D] and its softmax's log-denominator [N, H]; scan [N, H, D+1]: N and Z.
at::Tensor under_one_denominator(const at::Tensor& near, const at::Tensor& lse,
                                 const at::Tensor& scan, const at::Tensor& log_mix);

}  // namespace tigon
