#include "model/mixer.h"

namespace tigon {

int64_t MixerState::bytes() const {
  int64_t sum = 0;
  for (const at::Tensor& tensor : tensors()) sum += static_cast<int64_t>(tensor.nbytes());
  return sum;
}

HeadShape head_shape(const ModelConfig& config) {
  return {config.num_heads, config.num_kv_heads, config.head_dim};
}

MixerStack make_teacher_stack(const ModelConfig& config) {
  return MixerStack(config.num_layers, make_softmax_mixer(head_shape(config)));
}

}  // namespace tigon
