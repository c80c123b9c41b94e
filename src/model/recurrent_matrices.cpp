#include "model/recurrent_matrices.h"

#include <ATen/ATen.h>

namespace tigon {

RecurrentMatrices::RecurrentMatrices(int64_t slots, std::vector<int64_t> shape, at::Device device) {
  shape.insert(shape.begin(), slots);
  matrices_ = at::zeros(shape, at::device(device).dtype(at::kFloat));
}

void RecurrentMatrices::reset(int64_t slot) {
  const at::NoGradGuard no_grad;
  matrices_.select(0, slot).zero_();
}

at::Tensor RecurrentMatrices::read(const MixerInput& input) const {
  if (input.rings->holds_all_slots(matrices_.size(0))) return matrices_;
  return matrices_.index_select(0, input.rings->slots());
}

void RecurrentMatrices::write(const MixerInput& input, const at::Tensor& matrices) {
  const at::NoGradGuard no_grad;
  if (input.rings->holds_all_slots(matrices_.size(0))) {
    matrices_.copy_(matrices);
  } else {
    matrices_.index_copy_(0, input.rings->slots(), matrices);
  }
}

}  // namespace tigon
