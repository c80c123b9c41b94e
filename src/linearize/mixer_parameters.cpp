#include "linearize/mixer_parameters.h"

#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include <set>

#include "core/error.h"
#include "model/tensor_io.h"

namespace tigon {

std::vector<std::pair<std::string, at::Tensor>> mixer_parameters(const MixerStack& stack) {
  std::vector<std::pair<std::string, at::Tensor>> all;
  for (size_t layer = 0; layer < stack.size(); ++layer) {
    for (const auto& [name, tensor] : stack[layer]->parameters()) {
      all.emplace_back(fmt::format("model.layers.{}.self_attn.mixer.{}", layer, name), tensor);
    }
  }
  return all;
}

bool is_mixer_parameter(const std::string& name) {
  return name.find(".self_attn.mixer.") != std::string::npos;
}

void load_mixer_parameters(const MixerStack& stack,
                           const std::map<std::string, const TensorView*>& tensors,
                           const std::string& source_name) {
  at::NoGradGuard no_grad;
  std::vector<std::string> problems;
  std::set<std::string> expected;
  for (auto [name, parameter] : mixer_parameters(stack)) {
    expected.insert(name);
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      problems.push_back(fmt::format("{}: missing", name));
    } else if (parameter.sizes() != at::IntArrayRef(found->second->shape)) {
      problems.push_back(fmt::format("{}: expected shape [{}], found [{}]", name,
                                     fmt::join(parameter.sizes(), ", "),
                                     fmt::join(found->second->shape, ", ")));
    } else {
      parameter.copy_(to_tensor(*found->second, parameter.device(), parameter.scalar_type()));
    }
  }
  for (const auto& [name, view] : tensors) {
    if (is_mixer_parameter(name) && !expected.contains(name)) {
      problems.push_back(fmt::format("{}: no mixer has this parameter", name));
    }
  }
  if (!problems.empty()) {
    fail("{}: mixer parameters do not fit:\n  {}", source_name, fmt::join(problems, "\n  "));
  }
}

}  // namespace tigon
