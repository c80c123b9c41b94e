// A checked call of joint_decode, for its implementations.
#pragma once
#include "ops/joint_decode/joint_decode.h"

namespace tigon {

struct JointDecodeCall {
  DecodeTokens tokens;
  JointDecodeLogits logits;
  JointAttentionParameters parameters;
  DecodeState state;
  at::Tensor ring_log_importance;
};

/// Throws with op, argument, expected and found for every argument that does not fit.
void check_joint_decode(const JointDecodeCall& call);

/// The definition, for any device.
at::Tensor joint_decode_plain(const JointDecodeCall& call);

}  // namespace tigon
