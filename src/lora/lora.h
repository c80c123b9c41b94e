// Low-rank adapters on a model's linear layers.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/config_reader.h"
#include "model/weights.h"

namespace tigon {

struct LoraOptions {
  int64_t rank = 8;
  double alpha = 8;
  double dropout = 0;
  /// Module names, whole or their last parts, as peft's target_modules.
  std::vector<std::string> targets = {"q_proj", "k_proj", "v_proj"};
};
/// Keys: rank, alpha, dropout, targets.
LoraOptions read_lora_options(ConfigReader& reader);

/// Names of the linear layers that the targets name, in the model's order. A target that names
/// nothing throws UsageError listing what there is.
std::vector<std::string> lora_modules(const ModelWeights& weights,
                                      const std::vector<std::string>& targets);

/// Puts an adapter on every linear layer that a target names: A from kaiming_uniform(a=√5) as peft
/// does, B zero; drawn on the CPU from `seed` and the layer's name. Parameters are float32 and
/// require gradients; the base weights stop requiring them. Layers that have an adapter already are
/// refused.
void add_adapters(ModelWeights& weights, const LoraOptions& options, uint64_t seed);

/// Adapter parameters by peft's name without prefix:
/// "model.layers.0.self_attn.q_proj.lora_A.weight", in the model's order.
std::vector<std::pair<std::string, at::Tensor>> adapter_parameters(const ModelWeights& weights);

/// W + scale·B·A of a layer with an adapter, in float32 (float64 for a float64 W).
at::Tensor merged_weight(const Linear& linear);
/// W ← merged_weight for every adapter (computed in float32, rounded once to W's dtype), then
/// removes the adapters. W is replaced, not overwritten: other weights that share its storage keep
/// theirs.
void merge_adapters(ModelWeights& weights);
void remove_adapters(ModelWeights& weights);

}  // namespace tigon
