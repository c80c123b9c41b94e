// The forward pass: weights × mixer stack × batch (× state).
#pragma once
#include <filesystem>
#include <functional>
#include <optional>

#include "model/batch.h"
#include "model/mixer.h"
#include "model/state.h"
#include "model/weights.h"

namespace tigon {

/// Everything a forward pass shares across stacks.
struct Model {
  ModelConfig config;
  ModelWeights weights;
  Rotary rotary;
  at::ScalarType compute_dtype = at::kFloat;
  at::Device device = at::kCPU;
};

/// What a forward pass keeps of each layer for the backward pass. Gradients are the same: bit for
/// bit with kLayerInputs, but for rounding with kAllButMlp.
enum class Kept {
  kEverything,
  kAllButMlp,    // the MLP, the larger part of the bytes, is run again
  kLayerInputs,  // the whole layer is
};

struct ForwardOptions {
  bool use_adapters = true;
  ModelState* state = nullptr;
  // Given while training with dropout.
  std::optional<at::Generator> dropout_generator = std::nullopt;
  Kept kept = Kept::kEverything;  // no less together with a state
  // Where the weights of layer i come from if the model does not hold them; asked once a pass, in
  // order, and let go before the next.
  std::function<LayerWeights(int64_t layer)> load_layer = {};
};

/// The hidden states after the final norm, [N, M] in compute_dtype. Token ids are
/// checked. With a state, the batch must have been made for it, and the state moves on.
at::Tensor forward_hidden(const Model& model, const MixerStack& stack, const Batch& batch,
                          const ForwardOptions& options = {});

/// hidden [N, M] → logits [N, V] float32.
at::Tensor logits_of(const Model& model, const at::Tensor& hidden);

/// Builds a Model from a folder's config and weights.
Model load_model(const std::filesystem::path& folder, at::ScalarType dtype, at::Device device);

}  // namespace tigon
