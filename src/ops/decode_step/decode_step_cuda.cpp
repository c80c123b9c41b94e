#include "ops/decode_step/decode_step_cuda.h"

#include <ATen/ops/empty.h>

#include "ops/kernel_arguments.h"

namespace tigon {
namespace {

// The maps of joint_decode lay sequences out over gridDim.z, 8 at a time.
constexpr int64_t kMostSequences = 8 * 65535;

cuda::DecodeHeads heads_of(const at::Tensor& x) {
  return {x.const_data_ptr(), x.stride(0), x.stride(1)};
}

}  // namespace

bool decode_kernels_serve(const DecodeTokens& tokens, const DecodeState& state) {
  const at::ScalarType type = tokens.q.scalar_type();
  const int64_t D = tokens.q.size(2);
  return (type == at::kFloat || type == at::kBFloat16) && state.ring_keys.scalar_type() == type &&
         D > 0 && D % 8 == 0 && D <= cuda::kDecodeLargestHead &&
         state.ring_keys.size(1) <= cuda::kDecodeMostKeys && tokens.q.numel() > 0 &&
         tokens.q.size(0) <= kMostSequences && tokens.q.size(0) * tokens.k.size(1) <= INT32_MAX &&
         state.ring_keys.is_contiguous() && state.ring_values.is_contiguous() &&
         state.matrices.is_contiguous();
}

DecodeStepLaunch::DecodeStepLaunch(const DecodeTokens& tokens, const DecodeState& state)
    : q(with_vector_rows(tokens.q)),
      k(with_vector_rows(tokens.k)),
      v(with_vector_rows(tokens.v)),
      positions(tokens.positions.contiguous()),
      inverse_frequencies(tokens.inverse_frequencies.contiguous()),
      out(empty_rows(tokens.q)) {
  params.type = element_type(q);
  params.matrix_type = element_type(state.matrices);
  params.sequences = q.size(0);
  params.heads = static_cast<int>(q.size(1));
  params.kv_heads = static_cast<int>(k.size(1));
  params.head_dim = static_cast<int>(q.size(2));
  params.window_keys = static_cast<int>(state.ring_keys.size(1));
  params.q = heads_of(q);
  params.k = heads_of(k);
  params.v = heads_of(v);
  params.positions = positions.const_data_ptr<int64_t>();
  params.inverse_frequencies = inverse_frequencies.const_data_ptr<float>();
  params.rope_scale = static_cast<float>(tokens.rope_scale);
  if (state.slots) {
    slots = state.slots->contiguous();
    params.slots = slots.const_data_ptr<int64_t>();
  }
  params.slot_count = state.ring_keys.size(0);
  params.ring_keys = state.ring_keys.mutable_data_ptr();
  params.ring_values = state.ring_values.mutable_data_ptr();
  params.matrices = state.matrices.mutable_data_ptr();
  params.out = out.mutable_data_ptr();
}

}  // namespace tigon
