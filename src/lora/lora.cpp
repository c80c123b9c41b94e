#include "lora/lora.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <cmath>
#include <set>

#include "core/error.h"
#include "model/parameter_init.h"

namespace tigon {
namespace {

bool is_named_by(const std::string& module, const std::string& target) {
  return module == target || module.ends_with("." + target);
}

std::string last_part(const std::string& module) {
  return module.substr(module.rfind('.') + 1);
}

// Uniform in ±1/√in: kaiming_uniform with a = √5.
at::Tensor initial_a(int64_t rank, int64_t in, uint64_t seed) {
  return uniform_parameter({rank, in}, 1 / std::sqrt(static_cast<double>(in)), seed, at::kCPU);
}

}  // namespace

LoraOptions read_lora_options(ConfigReader& reader) {
  LoraOptions options;
  options.rank = reader.integer("rank", options.rank, at_least(1));
  options.alpha = reader.number("alpha", options.alpha, above(0));
  options.dropout = reader.number("dropout", options.dropout, between(0, 1));
  if (options.dropout == 1) reader.problem("dropout", "expected a number below 1, found 1");
  options.targets = reader.texts("targets", options.targets);
  if (options.targets.empty()) {
    reader.problem("targets", "expected at least one module name, found an empty list");
  }
  return options;
}

std::vector<std::string> lora_modules(const ModelWeights& weights,
                                      const std::vector<std::string>& targets) {
  std::vector<std::string> modules;
  std::set<std::string> available, used;
  visit_linears(weights, [&](const std::string& module, const Linear& linear) {
    available.insert(last_part(module));
    bool is_target = false;
    for (const std::string& target : targets) {
      if (!is_named_by(module, target)) continue;
      used.insert(target);
      is_target = true;
    }
    if (is_target) modules.push_back(module);
  });
  for (const std::string& target : targets) {
    if (used.contains(target)) continue;
    throw UsageError(fmt::format("lora.targets: expected names of linear layers ({}), found \"{}\"",
                                 fmt::join(available, ", "), target));
  }
  return modules;
}

void add_adapters(ModelWeights& weights, const LoraOptions& options, uint64_t seed) {
  const std::vector<std::string> modules = lora_modules(weights, options.targets);
  const std::set<std::string> chosen(modules.begin(), modules.end());
  visit_linears(weights, [&](const std::string& module, const Linear& linear) {
    if (linear.adapter) fail("{}: expected a layer without an adapter, found one with it", module);
  });
  visit_parameters(weights, [](const std::string& name, at::Tensor& parameter) {
    parameter.requires_grad_(false);
  });
  visit_linears(weights, [&](const std::string& module, Linear& linear) {
    if (!chosen.contains(module)) return;
    const at::Device device = linear.weight.device();
    const int64_t out = linear.weight.size(0), in = linear.weight.size(1);
    Adapter adapter;
    adapter.a = initial_a(options.rank, in, derive_seed(seed, "lora " + module)).to(device);
    adapter.b = at::zeros({out, options.rank}, at::TensorOptions(at::kFloat).device(device));
    adapter.a.requires_grad_(true);
    adapter.b.requires_grad_(true);
    adapter.scale = options.alpha / static_cast<double>(options.rank);
    adapter.dropout = options.dropout;
    linear.adapter = adapter;
  });
}

std::vector<std::pair<std::string, at::Tensor>> adapter_parameters(const ModelWeights& weights) {
  std::vector<std::pair<std::string, at::Tensor>> parameters;
  visit_linears(weights, [&](const std::string& module, const Linear& linear) {
    if (!linear.adapter) return;
    parameters.emplace_back(module + ".lora_A.weight", linear.adapter->a);
    parameters.emplace_back(module + ".lora_B.weight", linear.adapter->b);
  });
  return parameters;
}

at::Tensor merged_weight(const Linear& linear) {
  const at::NoGradGuard no_gradient;
  const at::ScalarType wide = linear.weight.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const Adapter& adapter = linear.adapter.value();
  const at::Tensor update = at::mm(adapter.b.to(wide), adapter.a.to(wide));  // [out, in]
  return at::add(linear.weight.to(wide), update, adapter.scale);
}

void merge_adapters(ModelWeights& weights) {
  visit_linears(weights, [](const std::string& module, Linear& linear) {
    if (!linear.adapter) return;
    linear.weight = merged_weight(linear).to(linear.weight.scalar_type());
    linear.adapter.reset();
  });
}

void remove_adapters(ModelWeights& weights) {
  visit_linears(weights, [](const std::string& module, Linear& linear) { linear.adapter.reset(); });
}

}  // namespace tigon
