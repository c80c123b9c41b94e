// The tensors of a decode step as its kernels take them. Not part of a CPU-only build.
#pragma once
#include "ops/decode_step/decode_step.h"
#include "ops/decode_step/decode_step_params.h"

namespace tigon {

/// Whether the kernels take these tensors: float32 or bfloat16 throughout, and either in the
/// matrices, heads of a multiple of 8 up to 128, at most 512 rows of a ring, a state without gaps.
/// A block then needs 95 KiB of shared memory at most, which every GPU from sm_80 on has.
bool decode_kernels_serve(const DecodeTokens& tokens, const DecodeState& state);

/// Pointers into the tensors, and the tensors that must live until the kernels are launched.
struct DecodeStepLaunch {
  cuda::DecodeStepParams params = {};
  at::Tensor q, k, v, positions, inverse_frequencies, slots;
  at::Tensor out;  // [S, H, D]

  DecodeStepLaunch(const DecodeTokens& tokens, const DecodeState& state);
};

}  // namespace tigon
