#include "lora/adapter_folder.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "io/json_fields.h"
#include "io/json_file.h"
#include "io/safetensors.h"
#include "model/tensor_io.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfigName = "adapter_config.json";
constexpr const char* kTensorsName = "adapter_model.safetensors";
constexpr std::string_view kPrefix = "base_model.model.";

// Keys read below, or that say nothing about what the adapter computes.
constexpr std::array kKnownKeys = {
    "peft_type",      "r",         "lora_alpha",        "lora_dropout",  "target_modules",
    "bias",           "task_type", "init_lora_weights", "auto_mapping",  "base_model_name_or_path",
    "inference_mode", "revision",  "peft_version",      "megatron_core", "qalora_group_size",
};

// null, false, an empty list or mapping: an option that is off.
bool is_off(const Json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) ||
         (value.is_structured() && value.empty());
}

void expect_text(const JsonFields& fields, const char* key, const std::string& expected) {
  const std::string found = fields.text(key);
  if (found != expected) fields.refuse(key, '"' + expected + '"', '"' + found + '"');
}

double read_dropout(const JsonFields& fields) {
  const Json* value = fields.find("lora_dropout");
  if (value == nullptr) return 0;
  const double found = value->is_number() ? value->get<double>() : -1;
  if (!(found >= 0 && found < 1)) {
    fields.refuse("lora_dropout", "a number from 0 to below 1", value->dump());
  }
  return found;
}

std::vector<std::string> read_targets(const JsonFields& fields) {
  const char* key = "target_modules";
  const char* expected = "a list of module names (a pattern is not supported)";
  const Json* value = fields.find(key);
  if (value == nullptr) fields.refuse(key, expected, "none");
  std::vector<std::string> targets;
  if (value->is_array()) {
    for (const Json& each : *value) {
      if (each.is_string()) targets.push_back(each.get<std::string>());
    }
  }
  if (targets.empty() || targets.size() != value->size()) {
    fields.refuse(key, expected, value->dump());
  }
  return targets;
}

// Some ways to initialise an adapter change the base weights too (pissa, olora, corda, …).
void check_initialisation(const JsonFields& fields) {
  static const std::set<Json> kLeaveTheBase = {true, false, "gaussian", "eva", "orthogonal"};
  const Json* value = fields.find("init_lora_weights");
  if (value == nullptr || kLeaveTheBase.contains(*value)) return;
  fields.refuse("init_lora_weights",
                "one that leaves the base weights alone (true, false, \"gaussian\", \"eva\", "
                "\"orthogonal\")",
                value->dump());
}

// What the file must hold: a name and a shape for every matrix.
std::map<std::string, std::vector<int64_t>> expected_shapes(const ModelWeights& weights,
                                                            const std::vector<std::string>& modules,
                                                            int64_t rank) {
  const std::set<std::string> chosen(modules.begin(), modules.end());
  std::map<std::string, std::vector<int64_t>> shapes;
  visit_linears(weights, [&](const std::string& module, const Linear& linear) {
    if (!chosen.contains(module)) return;
    const std::string name = std::string(kPrefix) + module;
    shapes[name + ".lora_A.weight"] = {rank, linear.weight.size(1)};
    shapes[name + ".lora_B.weight"] = {linear.weight.size(0), rank};
  });
  return shapes;
}

// All problems in one message.
void check_tensors(const SafetensorsFile& file,
                   const std::map<std::string, std::vector<int64_t>>& expected) {
  std::string problems;
  for (const auto& [name, shape] : expected) {
    const TensorView* tensor = file.find(name);
    if (tensor == nullptr) {
      problems += fmt::format("\n  {}: missing", name);
    } else if (tensor->shape != shape) {
      problems += fmt::format("\n  {}: expected shape [{}], found [{}]", name,
                              fmt::join(shape, ", "), fmt::join(tensor->shape, ", "));
    }
  }
  for (const auto& [name, tensor] : file.tensors()) {
    if (!expected.contains(name)) problems += fmt::format("\n  {}: nothing uses it", name);
  }
  if (!problems.empty()) fail("{}: the tensors do not fit the model:{}", file.name(), problems);
}

}  // namespace

void write_adapter(const fs::path& folder, const ModelWeights& weights, const LoraOptions& options,
                   const std::string& base_model_path) {
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const auto& [name, tensor] : adapter_parameters(weights)) {
    tensors.emplace_back(std::string(kPrefix) + name, tensor);
  }
  save_tensors(folder / kTensorsName, tensors, {{"format", "pt"}});

  const bool alpha_is_whole = options.alpha == std::floor(options.alpha);
  const Json config = {
      {"alpha_pattern", Json::object()},
      {"auto_mapping", nullptr},
      {"base_model_name_or_path", base_model_path.empty() ? Json(nullptr) : Json(base_model_path)},
      {"bias", "none"},
      {"fan_in_fan_out", false},
      {"inference_mode", true},
      {"init_lora_weights", true},
      {"layers_pattern", nullptr},
      {"layers_to_transform", nullptr},
      {"lora_alpha",
       alpha_is_whole ? Json(static_cast<int64_t>(options.alpha)) : Json(options.alpha)},
      {"lora_dropout", options.dropout},
      {"modules_to_save", nullptr},
      {"peft_type", "LORA"},
      {"r", options.rank},
      {"rank_pattern", Json::object()},
      {"revision", nullptr},
      {"target_modules", options.targets},
      {"task_type", "CAUSAL_LM"},
      {"use_dora", false},
      {"use_rslora", false},
  };
  write_json_file(folder / kConfigName, config);
}

LoraOptions read_adapter_config(const fs::path& folder) {
  const fs::path path = folder / kConfigName;
  const Json config = read_json_file(path);
  const JsonFields fields(config, path.string());
  expect_text(fields, "peft_type", "LORA");
  expect_text(fields, "bias", "none");
  if (fields.has("task_type")) expect_text(fields, "task_type", "CAUSAL_LM");
  check_initialisation(fields);
  for (const auto& [key, value] : config.items()) {
    if (std::find(kKnownKeys.begin(), kKnownKeys.end(), key) != kKnownKeys.end()) continue;
    if (!is_off(value)) {
      fields.refuse(key, "an option that is off, as tigon does not support it", value.dump());
    }
  }
  LoraOptions options;
  options.rank = fields.integer("r", 1, int64_t{1} << 20);
  options.alpha = fields.positive("lora_alpha");
  options.dropout = read_dropout(fields);
  options.targets = read_targets(fields);
  return options;
}

LoraOptions load_adapter(const fs::path& folder, ModelWeights& weights) {
  const LoraOptions options = read_adapter_config(folder);
  std::vector<std::string> modules;
  try {
    modules = lora_modules(weights, options.targets);
  } catch (const UsageError& error) {
    fail("{}: target_modules: {}", (folder / kConfigName).string(), error.what());
  }
  const SafetensorsFile file(folder / kTensorsName);
  check_tensors(file, expected_shapes(weights, modules, options.rank));
  add_adapters(weights, options, /*seed=*/0);
  const at::NoGradGuard no_gradient;
  for (const auto& [name, parameter] : adapter_parameters(weights)) {
    const TensorView& stored = file.at(std::string(kPrefix) + name);
    at::Tensor(parameter).copy_(to_tensor(stored, parameter.device(), at::kFloat));
  }
  return options;
}

}  // namespace tigon
