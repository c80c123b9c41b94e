// Gradients against central differences in float64.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace tigon::testing {

/// Checks every gradient of `function` (any number of outputs) by name: along `directions` random
/// directions per input, the directional derivative of a random projection of the outputs against
/// (f(x+h) − f(x−h)) / 2h, relative to kFiniteDifference. Inputs must be float64.
void check_gradients(
    const std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)>& function,
    const std::vector<std::pair<std::string, at::Tensor>>& inputs, int directions = 3);

}  // namespace tigon::testing
