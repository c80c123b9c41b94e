// Activation checkpointing: a part of a model as one node of the autograd graph.
#pragma once
#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <vector>

namespace tigon {

using RecomputedPart =
    std::function<at::Tensor(const at::Tensor& x, const std::optional<at::Generator>& dropout)>;

/// part(x), of which only x is kept for the backward pass; there the part is run again, with the
/// same dropout. `parameters` are the tensors beside x that want a gradient through it; those that
/// the part does not use get none.
at::Tensor recomputed(const RecomputedPart& part, const at::Tensor& x,
                      const std::vector<at::Tensor>& parameters,
                      const std::optional<at::Generator>& dropout_generator);

}  // namespace tigon
