#include "train/parameters.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include "core/table.h"
#include "linearize/mixer_parameters.h"
#include "model/tensor_io.h"

namespace tigon {
namespace {

std::vector<Parameter> float32_masters(ModelWeights& weights) {
  std::vector<Parameter> parameters;
  visit_parameters(weights, [&](const std::string& name, at::Tensor& tensor) {
    tensor = tensor.detach().to(at::kFloat).requires_grad_(true);
    parameters.push_back({name, tensor});
  });
  if (weights.is_tied) weights.lm_head = weights.embed_tokens;
  return parameters;
}

void freeze(ModelWeights& weights) {
  visit_parameters(weights,
                   [](const std::string&, at::Tensor& tensor) { tensor.requires_grad_(false); });
}

[[noreturn]] void fail_with_names(const std::string& message,
                                  const std::vector<std::string>& names) {
  constexpr size_t kShown = 10;
  std::vector<std::string> shown(names.begin(), names.begin() + std::min(names.size(), kShown));
  if (names.size() > kShown) shown.push_back(fmt::format("and {} more", names.size() - kShown));
  fail("{}: {}", message, fmt::join(shown, ", "));
}

}  // namespace

std::vector<Parameter> make_trainable(LoadedModel& loaded, const std::string& trainable,
                                      const LoraOptions& lora, uint64_t seed) {
  const auto added = mixer_parameters(loaded.stack);
  if (trainable == "new" && added.empty()) {
    throw UsageError(fmt::format(
        "train.trainable: expected a recipe that adds parameters, found '{}', which adds none",
        loaded.plan.recipe));
  }
  ModelWeights& weights = loaded.model.weights;
  std::vector<Parameter> parameters;
  freeze(weights);
  if (trainable == "all") parameters = float32_masters(weights);
  if (trainable == "lora") {
    add_adapters(weights, lora, seed);
    for (const auto& [name, tensor] : adapter_parameters(weights)) {
      parameters.push_back({name, tensor});
    }
  }
  for (const auto& [name, tensor] : added) {
    parameters.push_back({name, tensor.requires_grad_(true), /*is_new=*/true});
  }
  return parameters;
}

ParameterTable count_parameters(const LoadedModel& loaded, const std::vector<Parameter>& trained) {
  ParameterTable table;
  visit_parameters(loaded.model.weights, [&](const std::string&, const at::Tensor& tensor) {
    table.base += tensor.numel();
  });
  for (const auto& [name, tensor] : adapter_parameters(loaded.model.weights)) {
    table.lora += tensor.numel();
  }
  for (const auto& [name, tensor] : mixer_parameters(loaded.stack)) table.added += tensor.numel();
  for (const Parameter& parameter : trained) table.trainable += parameter.tensor.numel();
  return table;
}

Json parameters_to_json(const ParameterTable& table) {
  return {{"base", table.base},
          {"lora", table.lora},
          {"new", table.added},
          {"trainable", table.trainable}};
}

std::string parameters_to_text(const ParameterTable& table) {
  const double all = static_cast<double>(table.base + table.lora + table.added);
  const auto row = [&](const std::string& name, int64_t count) {
    return std::vector<std::string>{
        name, fmt::format("{}", count),
        fmt::format("{:.2f} %", 100 * static_cast<double>(count) / all)};
  };
  return format_table({"parameters", "number", "share"},
                      {row("base", table.base), row("LoRA", table.lora), row("new", table.added),
                       row("trainable", table.trainable)});
}

void check_gradients_reach(const std::vector<Parameter>& parameters) {
  std::vector<std::string> missing;
  for (const Parameter& parameter : parameters) {
    if (!parameter.tensor.grad().defined()) missing.push_back(parameter.name);
  }
  if (!missing.empty())
    fail_with_names("the loss does not depend on trainable parameters", missing);
}

void check_finite(const std::vector<Parameter>& parameters, const std::string& when) {
  std::vector<std::string> broken;
  for (const Parameter& parameter : parameters) {
    if (!at::isfinite(parameter.tensor).all().item<bool>()) broken.push_back(parameter.name);
  }
  if (!broken.empty()) fail_with_names(when + ": NaN or infinity in parameters", broken);
}

void restore_parameters(const std::filesystem::path& path, const std::string& prefix,
                        const std::vector<Parameter>& parameters) {
  at::NoGradGuard no_grad;
  const SafetensorsFile file(path);
  for (const Parameter& parameter : parameters) {
    const at::Tensor stored = to_tensor(file.at(prefix + parameter.name), at::kCPU);
    if (stored.sizes() != parameter.tensor.sizes() ||
        stored.scalar_type() != parameter.tensor.scalar_type()) {
      fail("{}: tensor {}: expected {} {}, found {} {}", path.string(), prefix + parameter.name,
           toString(parameter.tensor.scalar_type()), fmt::join(parameter.tensor.sizes(), " x "),
           toString(stored.scalar_type()), fmt::join(stored.sizes(), " x "));
    }
    parameter.tensor.detach().copy_(stored);
  }
}

}  // namespace tigon
