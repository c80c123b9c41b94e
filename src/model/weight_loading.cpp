// Checkpoint → ModelWeights: first every name, shape and type is checked, then tensors are copied.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <set>

#include "core/error.h"
#include "model/tensor_io.h"
#include "model/weights.h"

namespace tigon {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";

/// Neither weights nor errors: mixers read their own parameters, rotary buffers are recomputed.
bool is_left_alone(const std::string& name) {
  return name.find(".self_attn.mixer.") != std::string::npos ||
         name.ends_with("rotary_emb.inv_freq");
}

bool is_floating(DType dtype) {
  return at::isFloatingType(to_scalar_type(dtype));
}

bool are_equal(const TensorView& a, const TensorView& b) {
  return a.shape == b.shape &&
         at::equal(to_tensor(a, at::kCPU, at::kFloat), to_tensor(b, at::kCPU, at::kFloat));
}

/// A problem of one expected tensor, or an empty text.
std::string check_tensor(const TensorView* found, const std::string& name,
                         const std::vector<int64_t>& shape) {
  if (found == nullptr) return fmt::format("{}: missing, expected shape {}", name, shape);
  if (found->shape != shape) {
    return fmt::format("{}: expected shape {}, found {}", name, shape, found->shape);
  }
  if (!is_floating(found->dtype)) {
    return fmt::format("{}: expected floating-point numbers, found {}", name,
                       dtype_name(found->dtype));
  }
  return "";
}

/// A problem of a tensor that the config does not call for, or an empty text.
std::string check_leftover(const Checkpoint& checkpoint, const ModelConfig& config,
                           const std::string& name, const TensorView& view) {
  if (is_left_alone(name)) return "";
  if (name == kHead && config.tie_word_embeddings) {
    const TensorView* embedding = checkpoint.find(kEmbedding);
    if (embedding == nullptr || are_equal(view, *embedding)) return "";
    return fmt::format("{}: config.json ties it to {}, but the two differ", kHead, kEmbedding);
  }
  return fmt::format("{}: unknown tensor of shape {}, nothing in config.json calls for it", name,
                     view.shape);
}

void check_checkpoint(const Checkpoint& checkpoint, const ModelConfig& config,
                      const ModelWeights& expected) {
  std::vector<std::string> problems;
  const auto note = [&](std::string problem) {
    if (!problem.empty()) problems.push_back("  " + std::move(problem));
  };
  std::set<std::string> consumed;
  visit_parameters(expected, [&](const std::string& name, const at::Tensor& parameter) {
    consumed.insert(name);
    note(check_tensor(checkpoint.find(name), name, parameter.sizes().vec()));
  });
  for (const auto& [name, view] : checkpoint.tensors()) {
    if (!consumed.contains(name)) note(check_leftover(checkpoint, config, name, *view));
  }
  if (problems.empty()) return;
  fail("{}: the weights do not fit config.json, {} problem{}\n{}", checkpoint.folder().string(),
       problems.size(), problems.size() == 1 ? "" : "s", fmt::join(problems, "\n"));
}

}  // namespace

ModelWeights load_weights_around_layers(const Checkpoint& checkpoint, const ModelConfig& config,
                                        at::ScalarType dtype, at::Device device) {
  ModelWeights weights = meta_weights(config, dtype);
  check_checkpoint(checkpoint, config, weights);
  visit_parameters(weights, [&](const std::string& name, at::Tensor& parameter) {
    if (name.starts_with("model.layers.")) return;
    parameter = to_tensor(checkpoint.at(name), device, dtype);
  });
  return weights;
}

LayerWeights load_layer(const Checkpoint& checkpoint, const LayerWeights& shapes, int64_t index,
                        at::ScalarType dtype, at::Device device) {
  LayerWeights layer = shapes;
  visit_layer_parameters(layer, index, [&](const std::string& name, at::Tensor& parameter) {
    parameter = to_tensor(checkpoint.at(name), device, dtype);
  });
  return layer;
}

ModelWeights load_weights(const Checkpoint& checkpoint, const ModelConfig& config,
                          at::ScalarType dtype, at::Device device) {
  ModelWeights weights = meta_weights(config, dtype);
  check_checkpoint(checkpoint, config, weights);
  visit_parameters(weights, [&](const std::string& name, at::Tensor& parameter) {
    parameter = to_tensor(checkpoint.at(name), device, dtype);
  });
  return weights;
}

}  // namespace tigon
