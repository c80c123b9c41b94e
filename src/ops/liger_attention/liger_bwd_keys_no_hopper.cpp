// In place of liger_bwd_keys_hopper.cu in a build that compiles nothing for sm_90a.
#include "ops/liger_attention/liger_attention_params.h"

namespace tigon::cuda {

bool has_liger_bwd_keys_hopper(int) {
  return false;
}

cudaError_t launch_liger_bwd_keys_hopper(const LigerParams&, cudaStream_t) {
  return cudaErrorNotSupported;
}

}  // namespace tigon::cuda
