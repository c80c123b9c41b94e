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
  // Over each head, where the family has it; the mixer and its gate read k after it.
  const auto head_norm = [&](const at::Tensor& heads, const at::Tensor& weight) {
    return weight.defined() ? norm(heads.flatten(0, 1), weight).view(heads.sizes()) : heads;
  };
  const auto project = [&](const Linear& linear, const at::Tensor& input) {
    return split_heads(apply(linear, input), head_dim);
  };

  const at::Tensor attention_input = norm(x, weights.input_norm);
  const MixerInput mixer_input{
      .hidden = attention_input,
      .q = head_norm(project(weights.q_proj, attention_input), weights.q_norm),
      .k = head_norm(project(weights.k_proj, attention_input), weights.k_norm),
      .v = project(weights.v_proj, attention_input),
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
  std::vector<at::Tensor> all = {weights.input_norm, weights.post_attention_norm, weights.q_norm,
                                 weights.k_norm};
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
