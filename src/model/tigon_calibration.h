// What a tigon mixer reads from its teacher before training: the centre of the keys, how much the
// teacher's attention leaves to tokens outside the window, and the maps of features of second
// order.
#pragma once
#include <ATen/core/Tensor.h>

#include "model/mixer.h"
#include "ops/joint_attention/joint_attention.h"

namespace tigon {

struct TigonCalibration {
  at::Tensor w_q, w_k;  // features of second order: balanced_maps; others: the maps as they are
  at::Tensor b_k;  // [Hkv, D] −mean(k) w_k, so that features do not drown in what all keys share
  at::Tensor b_mix;  // [H] mean of log(mass of the teacher's softmax outside the window) − log Z
};

/// `input` holds the teacher's q and k. b_k is a mean over all its tokens. With these maps and
/// equal importance, Z_i = φq_i Σ_{j ≤ i−w} a^{i−w−j} φk_j, at least 1e−9, and M_i = Σ_{j ≤ i−w}
/// e^{s_ij} with s_ij as in joint_attention; b_mix is the mean of log M_i − log Z_i over the tokens
/// i ≥ min(2w, (w+T)/2) of each segment of T tokens (those with a past beyond the window), 0 if
/// there are none. Runs in float32, M for one block of queries at a time.
TigonCalibration calibrate_tigon(const MixerInput& input, const JointAttentionParameters& maps,
                                 int64_t window_keys);

}  // namespace tigon
