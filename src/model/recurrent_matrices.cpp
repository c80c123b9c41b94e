#include "model/recurrent_matrices.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "ops/stochastic_round/stochastic_round.h"

namespace tigon {

RecurrentMatrices::RecurrentMatrices(int64_t slots, std::vector<int64_t> shape,
                                     at::ScalarType dtype, at::Device device) {
  if (dtype != at::kFloat && dtype != at::kBFloat16) {
    fail("state: expected matrices in float32 or bfloat16, found {}", c10::toString(dtype));
  }
  shape.insert(shape.begin(), slots);
  matrices_ = at::zeros(shape, at::device(device).dtype(dtype));
}

void RecurrentMatrices::reset(int64_t slot) {
  const at::NoGradGuard no_grad;
  matrices_.select(0, slot).zero_();
}

at::Tensor RecurrentMatrices::read(const MixerInput& input) const {
  const bool is_all = input.rings->holds_all_slots(matrices_.size(0));
  const at::Tensor own = is_all ? matrices_ : matrices_.index_select(0, input.rings->slots());
  return own.to(at::kFloat);
}

void RecurrentMatrices::write(const MixerInput& input, const at::Tensor& matrices) {
  const at::NoGradGuard no_grad;
  const bool is_rounded = matrices_.scalar_type() == at::kBFloat16;
  const at::Tensor kept =
      is_rounded ? stochastic_round(matrices.to(at::kFloat), input.rings->last_positions())
                 : matrices;
  if (input.rings->holds_all_slots(matrices_.size(0))) {
    matrices_.copy_(kept);
  } else {
    matrices_.index_copy_(0, input.rings->slots(), kept);
  }
}

std::string state_dtype_text(at::ScalarType dtype) {
  return dtype == at::kBFloat16 ? ", state in bfloat16" : "";
}

}  // namespace tigon
