// Products of gates inside blocks, made so that only sums of log-gates are exponentiated, never a
// difference of large numbers and never anything above 0.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

namespace tigon {

/// A block of C tokens (a power of two) is halved again and again. On the level with halves of h
/// tokens, what token j of a first half gives to token i of the second half decays by
/// exp(sum of log-gates j+1 … i) = exp(j+1 … border) · exp(border … i), two factors ≤ 1. The sums
/// of a level come from those of the level below by adding the other half's whole sum, so no
/// subtraction occurs and float32 is enough for any mixture of gates.
/// Shapes: M blocks, Hg gate heads, Kg = K (a gate per channel) or 1 (per head), P = C/2h.
struct BlockDecays {
  std::vector<at::Tensor> to_border;  // per level h = 1, 2, … C/2: [M, Hg, P, 2, h, Kg]
  at::Tensor from_start;              // [M, Hg, C, Kg]: from the block's start through token i
  at::Tensor to_end;                  // [M, Hg, C, Kg]: after token j through the block's end
  at::Tensor whole;                   // [M, Hg, Kg]
};

/// log_gate [M, Hg, C, Kg].
BlockDecays block_decays(const at::Tensor& log_gate);

/// The gradient of log_gate from those of the logarithms of the decays, shaped as they are.
/// Overwrites from_start and to_end.
at::Tensor block_decays_backward(const BlockDecays& dlog);

}  // namespace tigon
