// joint_attention with features of second order on a GPU: FlashAttention's window, gated_scan's
// kernels, and between them one that makes the features and one that puts both under one
// denominator. CUDA builds only.
#pragma once
#include "ops/joint_attention/joint_attention_call.h"

namespace tigon {

/// Whether the call has such features, and a dtype and sizes that the kernels take.
bool second_order_kernels_serve(const JointAttentionCall& call);

/// The call in bf16, with sums in float32. Keeps gradients.
JointAttentionResult joint_attention_of_second_order(const JointAttentionCall& call);

}  // namespace tigon
