// What the kernel of liger_decode is called with: plain structures, no Torch.
#pragma once
#include "ops/decode_step/decode_step_params.h"

namespace tigon::cuda {

struct LigerDecodeParams {
  DecodeStepParams step;     // matrices [slots, Hkv, D, D]
  float inverse_normalizer;  // 1/gate_normalizer
  float mix;                 // the recurrence's share
};

cudaError_t launch_liger_decode(const LigerDecodeParams& params, cudaStream_t stream);

}  // namespace tigon::cuda
