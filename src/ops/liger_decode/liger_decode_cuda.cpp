// liger_decode on the GPU: its kernel where it takes the tensors, the plain definition elsewhere.
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "ops/decode_step/decode_step_cuda.h"
#include "ops/liger_decode/liger_decode_call.h"
#include "ops/liger_decode/liger_decode_params.h"

namespace tigon {
namespace {

at::Tensor liger_decode_cuda(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             const at::Tensor& positions, const at::Tensor& inverse_frequencies,
                             const at::Tensor& ring_keys, const at::Tensor& ring_values,
                             const at::Tensor& matrices, const std::optional<at::Tensor>& slots,
                             double gate_normalizer, double mix, double rope_scale) {
  const LigerDecodeCall call =
      check_liger_decode(q, k, v, positions, inverse_frequencies, ring_keys, ring_values, matrices,
                         slots, gate_normalizer, mix, rope_scale);
  if (!decode_kernels_serve(call.tokens, call.state)) return liger_decode_plain(call);
  const at::NoGradGuard no_grad;
  const c10::cuda::CUDAGuard guard(q.device());
  const DecodeStepLaunch launch(call.tokens, call.state);
  const cuda::LigerDecodeParams params{
      .step = launch.params,
      .inverse_normalizer = static_cast<float>(1 / gate_normalizer),
      .mix = static_cast<float>(mix)};
  C10_CUDA_CHECK(cuda::launch_liger_decode(params, c10::cuda::getCurrentCUDAStream()));
  return launch.out;
}

}  // namespace

TORCH_LIBRARY_IMPL(tigon, CUDA, m) {
  m.impl("liger_decode", liger_decode_cuda);
}
TORCH_LIBRARY_IMPL(tigon, AutogradCUDA, m) {
  m.impl("liger_decode", liger_decode_cuda);
}

}  // namespace tigon
