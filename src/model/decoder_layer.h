// One decoder layer: x + o_proj(mixer(norm x)), then x + mlp(norm x).
#pragma once
#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>

#include "model/batch.h"
#include "model/mixer.h"
#include "model/weights.h"

namespace tigon {

/// What all layers of a forward pass share.
struct LayerContext {
  Batch batch;
  Rotary rotary;
  double rms_norm_eps = 0;
  bool use_adapters = true;
};

struct DecoderLayer {
  std::shared_ptr<const LayerContext> context;
  LayerWeights weights;
  std::shared_ptr<const Mixer> mixer;

  /// x [N, M] → [N, M]. `rings` and `state` both or neither.
  at::Tensor forward(const at::Tensor& x, RingIndexes* rings, MixerState* state,
                     const std::optional<at::Generator>& dropout_generator) const;

  /// forward without a state that keeps only x for the backward pass and runs the layer again
  /// there.
  at::Tensor forward_recomputed(const at::Tensor& x,
                                const std::optional<at::Generator>& dropout_generator) const;
  /// The same for the MLP alone.
  at::Tensor forward_with_mlp_recomputed(
      const at::Tensor& x, const std::optional<at::Generator>& dropout_generator) const;

  /// Every tensor that the layer's output depends on and that requires a gradient.
  std::vector<at::Tensor> trainable_parameters() const;

 private:
  /// q, k, v, the mixer and o_proj: [N, M] → [N, M], without the residual.
  at::Tensor attention(const at::Tensor& x, RingIndexes* rings, MixerState* state,
                       const std::optional<at::Generator>& dropout_generator) const;
  /// The MLP of an input after its norm: [N, M] → [N, M], without the residual.
  at::Tensor mlp(const at::Tensor& x, const std::optional<at::Generator>& dropout_generator) const;
  at::Tensor norm(const at::Tensor& x, const at::Tensor& weight) const;
};

}  // namespace tigon
