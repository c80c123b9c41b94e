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
  MixerStack stack(config.num_layers, make_softmax_mixer(head_shape(config)));
  for (size_t layer = 0; layer < config.layer_windows.size(); ++layer) {
    const int64_t window_keys = config.layer_windows[layer];
    if (window_keys > 0) stack[layer] = make_softmax_mixer(head_shape(config), window_keys);
  }
  return stack;
}

}  // namespace tigon
