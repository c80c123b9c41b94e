#include "model/decoder_layer.h"

#include <ATen/ATen.h>

#include "ops/rms_norm/rms_norm.h"
#include "ops/swiglu/swiglu.h"

namespace tigon {

at::Tensor DecoderLayer::forward(const at::Tensor& x, RingIndexes* rings, MixerState* state,
                                 const std::optional<at::Generator>& dropout_generator) const {
  const auto apply = [&](const Linear& linear, const at::Tensor& input) {
    return linear.forward(input, context->use_adapters, dropout_generator);
  };
  const auto norm = [&](const at::Tensor& input, const at::Tensor& weight) {
    return rms_norm(input, weight.to(input.scalar_type()), context->rms_norm_eps);
  };
  const auto split_heads = [](const at::Tensor& input, int64_t head_dim) {
    return input.view({input.size(0), input.size(1) / head_dim, head_dim});
  };
  const int64_t head_dim = 2 * context->rotary.inverse_frequencies.size(0);

  const at::Tensor attention_input = norm(x, weights.input_norm);
  const MixerInput mixer_input{.hidden = attention_input,
                               .q = split_heads(apply(weights.q_proj, attention_input), head_dim),
                               .k = split_heads(apply(weights.k_proj, attention_input), head_dim),
                               .v = split_heads(apply(weights.v_proj, attention_input), head_dim),
                               .batch = context->batch,
                               .rotary = context->rotary,
                               .rings = rings};
  const at::Tensor mixed = mixer->forward(mixer_input, state);
  const at::Tensor middle = x + apply(weights.o_proj, mixed.flatten(1));

  const at::Tensor mlp_input = norm(middle, weights.post_attention_norm);
  const at::Tensor inner =
      swiglu(apply(weights.gate_proj, mlp_input), apply(weights.up_proj, mlp_input));
  return middle + apply(weights.down_proj, inner);
}

std::vector<at::Tensor> DecoderLayer::trainable_parameters() const {
  std::vector<at::Tensor> all = {weights.input_norm, weights.post_attention_norm};
  for (const Linear* linear : {&weights.q_proj, &weights.k_proj, &weights.v_proj, &weights.o_proj,
                               &weights.gate_proj, &weights.up_proj, &weights.down_proj}) {
    all.push_back(linear->weight);
    all.push_back(linear->bias);
    if (linear->adapter && context->use_adapters) {
      all.push_back(linear->adapter->a);
      all.push_back(linear->adapter->b);
    }
  }
  for (const auto& [name, parameter] : mixer->parameters()) all.push_back(parameter);
  std::erase_if(
      all, [](const at::Tensor& tensor) { return !tensor.defined() || !tensor.requires_grad(); });
  return all;
}

}  // namespace tigon
