// The weights of a model of the Llama kind under Hugging Face's parameter names. Mixers are not
// here: they are stacks over these weights.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "io/model_config.h"
#include "io/safetensors.h"
#include "model/linear.h"

namespace tigon {

struct LayerWeights {
  at::Tensor input_norm;          // [M] input_layernorm.weight
  Linear q_proj, k_proj, v_proj;  // self_attn.*
  at::Tensor q_norm, k_norm;      // [D] self_attn.*.weight; undefined in families without them
  Linear o_proj;
  at::Tensor post_attention_norm;        // [M] post_attention_layernorm.weight
  Linear gate_proj, up_proj, down_proj;  // mlp.*
};

struct ModelWeights {
  at::Tensor embed_tokens;  // [V, M]
  std::vector<LayerWeights> layers;
  at::Tensor norm;     // [M]
  at::Tensor lm_head;  // [V, M]; the same tensor as embed_tokens when tied
  bool is_tied = false;
};

/// Loads every tensor the config calls for, straight to device and dtype, and refuses missing
/// tensors, wrong shapes, element types that are no floating-point numbers and tensors nothing
/// consumed (all of them in one message). `lm_head.weight` beside tied embeddings is accepted if
/// it is equal to them. Names under `.self_attn.mixer.` belong to mixers and are left alone.
/// Rotary buffers (`rotary_emb.inv_freq`) of old checkpoints are skipped.
ModelWeights load_weights(const Checkpoint& checkpoint, const ModelConfig& config,
                          at::ScalarType dtype, at::Device device);

/// The same for all but the decoder layers, whose tensors stay without storage (meta device): for
/// models that are run without being held. Every layer is checked.
ModelWeights load_weights_around_layers(const Checkpoint& checkpoint, const ModelConfig& config,
                                        at::ScalarType dtype, at::Device device);
/// Fills the tensors of one decoder layer.
LayerWeights load_layer(const Checkpoint& checkpoint, const LayerWeights& shapes, int64_t index,
                        at::ScalarType dtype, at::Device device);

/// A randomly initialised model: normal(0, initializer_range), residual outputs (o_proj,
/// down_proj) scaled by 1/sqrt(2·layers), norms 1. Drawn on the CPU in float32 from a seed per
/// tensor name: the same on every device.
ModelWeights random_weights(const ModelConfig& config, uint64_t seed, at::ScalarType dtype,
                            at::Device device);
/// Shapes without storage (meta device).
ModelWeights meta_weights(const ModelConfig& config, at::ScalarType dtype);

/// Every parameter by its full Hugging Face name ("model.layers.0.mlp.up_proj.weight"), in a fixed
/// order; a tied lm_head once, as the embedding (it follows when `visit` replaces the embedding).
/// Adapters not included.
void visit_parameters(
    ModelWeights& weights,
    const std::function<void(const std::string& name, at::Tensor& parameter)>& visit);
void visit_parameters(
    const ModelWeights& weights,
    const std::function<void(const std::string& name, const at::Tensor& parameter)>& visit);
/// The same for one decoder layer.
void visit_layer_parameters(
    LayerWeights& layer, int64_t index,
    const std::function<void(const std::string& name, at::Tensor& parameter)>& visit);
/// Every linear layer of the decoder layers by module name ("model.layers.0.self_attn.q_proj").
void visit_linears(ModelWeights& weights,
                   const std::function<void(const std::string& name, Linear& linear)>& visit);
void visit_linears(const ModelWeights& weights,
                   const std::function<void(const std::string& name, const Linear& linear)>& visit);

/// A second set of weights, adapters included, that shares no storage (where shared weights are to
/// be trained). Its tensors do not require gradients.
ModelWeights clone_weights(const ModelWeights& weights);

}  // namespace tigon
