// Linear layers over one input (q, k and v; gate and up) as one matrix product.
#pragma once
#include <vector>

#include "model/weights.h"

namespace tigon {

/// What the layers' forward() give for x [N, in], side by side: [N, Σ out]. Undefined where they
/// cannot be one product: their weights must be frozen and lie behind each other in memory
/// (pack_linears), with biases and used adapters on all of them or none, the adapters of one scale
/// and without a dropout mask.
at::Tensor forward_packed(const std::vector<const Linear*>& linears, const at::Tensor& x,
                          bool use_adapters, const std::optional<at::Generator>& dropout_generator);

/// What each layer's forward() gives, from one product where possible.
std::vector<at::Tensor> forward_together(const std::vector<const Linear*>& linears,
                                         const at::Tensor& x, bool use_adapters,
                                         const std::optional<at::Generator>& dropout_generator);

/// Moves the frozen weights of q, k and v, and of gate and up, behind each other, a layer at a
/// time; values and names stay. Weights that require gradients or have no storage are left alone.
void pack_linears(ModelWeights& weights);

}  // namespace tigon
