#include "model/decoder_layer.h"

#include <ATen/ATen.h>

#include "model/packed_linears.h"
#include "model/recompute.h"
#include "ops/rms_norm/rms_norm.h"
#include "ops/swiglu/swiglu.h"

namespace tigon {

at::Tensor DecoderLayer::forward(const at::Tensor& x, RingIndexes* rings, MixerState* state,
                                 const std::optional<at::Generator>& dropout_generator) const {
  const auto [middle, mlp_input] =
      add_rms_norm(attention(x, rings, state, dropout_generator), x,
                   weights.post_attention_norm.to(x.scalar_type()), context->rms_norm_eps);
  return middle + mlp(mlp_input, dropout_generator);
}

at::Tensor DecoderLayer::forward_recomputed(
    const at::Tensor& x, const std::optional<at::Generator>& dropout_generator) const {
  const auto run = [layer = *this](const at::Tensor& input,
                                   const std::optional<at::Generator>& generator) {
    return layer.forward(input, nullptr, nullptr, generator);
  };
  return recomputed(run, x, trainable_parameters(), dropout_generator);
}

at::Tensor DecoderLayer::forward_with_mlp_recomputed(
    const at::Tensor& x, const std::optional<at::Generator>& dropout_generator) const {
  const auto run = [layer = *this](const at::Tensor& middle,
                                   const std::optional<at::Generator>& generator) {
    return middle + layer.mlp(layer.norm(middle, layer.weights.post_attention_norm), generator);
  };
  return recomputed(run, attention(x, nullptr, nullptr, dropout_generator) + x,
                    trainable_parameters(), dropout_generator);
}

at::Tensor DecoderLayer::norm(const at::Tensor& x, const at::Tensor& weight) const {
  return rms_norm(x, weight.to(x.scalar_type()), context->rms_norm_eps);
}

at::Tensor DecoderLayer::attention(const at::Tensor& x, RingIndexes* rings, MixerState* state,
                                   const std::optional<at::Generator>& dropout_generator) const {
  const int64_t head_dim = 2 * context->rotary.inverse_frequencies.size(0);
  const auto split_heads = [&](const at::Tensor& input) {
    return input.view({input.size(0), input.size(1) / head_dim, head_dim});
  };
  // Over each head, where the family has it; the mixer and its gate read k after it.
  const auto head_norm = [&](const at::Tensor& heads, const at::Tensor& weight) {
    return weight.defined() ? norm(heads.flatten(0, 1), weight).view(heads.sizes()) : heads;
  };
  const at::Tensor input = norm(x, weights.input_norm);
  const std::vector<at::Tensor> projected =
      forward_together({&weights.q_proj, &weights.k_proj, &weights.v_proj}, input,
                       context->use_adapters, dropout_generator);
  const MixerInput mixer_input{.hidden = input,
                               .q = head_norm(split_heads(projected[0]), weights.q_norm),
                               .k = head_norm(split_heads(projected[1]), weights.k_norm),
                               .v = split_heads(projected[2]),
                               .batch = context->batch,
                               .rotary = context->rotary,
                               .rings = rings};
  const at::Tensor mixed = mixer->forward(mixer_input, state);
  return weights.o_proj.forward(mixed.flatten(1), context->use_adapters, dropout_generator);
}

at::Tensor DecoderLayer::mlp(const at::Tensor& x,
                             const std::optional<at::Generator>& dropout_generator) const {
  const Linear &gate = weights.gate_proj, &up = weights.up_proj;
  const bool use_adapters = context->use_adapters;
  const at::Tensor packed = forward_packed({&gate, &up}, x, use_adapters, dropout_generator);
  const at::Tensor inner = packed.defined()
                               ? swiglu_packed(packed)
                               : swiglu(gate.forward(x, use_adapters, dropout_generator),
                                        up.forward(x, use_adapters, dropout_generator));
  return weights.down_proj.forward(inner, use_adapters, dropout_generator);
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
