#include "train/weight_change.h"

#include <ATen/ATen.h>

#include <cmath>
#include <map>

namespace tigon {
namespace {

/// Squared Frobenius norms.
struct Squares {
  double change = 0, weight = 0;
};

double square_norm(const at::Tensor& tensor) {
  const double norm =
      at::linalg_vector_norm(tensor, 2, {}, /*keepdim=*/false, at::kFloat).item<double>();
  return norm * norm;
}

/// ‖scale · B A‖² = scale² · Σ (BᵀB ∘ A Aᵀ), without the large product.
double adapter_square(const Adapter& adapter) {
  const at::Tensor a = adapter.a.to(at::kDouble), b = adapter.b.to(at::kDouble);
  const double sum = (at::mm(b.t(), b) * at::mm(a, a.t())).sum().item<double>();
  return adapter.scale * adapter.scale * std::max(sum, 0.0);
}

class Changes {
 public:
  void add(const std::string& module, double change, double weight) {
    for (const std::string& name : {std::string("all"), module.substr(module.rfind('.') + 1)}) {
      squares_[name].change += change;
      squares_[name].weight += weight;
    }
  }
  Json ratios() const {
    Json json;
    for (const auto& [name, square] : squares_) {
      if (square.weight > 0) json[name] = std::sqrt(square.change / square.weight);
    }
    return json;
  }

 private:
  std::map<std::string, Squares> squares_;
};

Json change_from_folder(const RunConfig& config, const Model& model) {
  const Model before = load_model(config.model_path, at::kFloat, at::kCPU);
  std::map<std::string, at::Tensor> old_weights;
  visit_linears(before.weights, [&](const std::string& module, const Linear& linear) {
    old_weights[module] = linear.weight;
  });
  Changes changes;
  visit_linears(model.weights, [&](const std::string& module, const Linear& linear) {
    const at::Tensor old_weight = old_weights.at(module).to(linear.weight.device());
    changes.add(module, square_norm(linear.weight - old_weight), square_norm(old_weight));
  });
  return changes.ratios();
}

}  // namespace

Json weight_change(const RunConfig& config, const RunParts& parts) {
  const at::NoGradGuard no_gradient;
  if (config.is_random() || config.train.trainable == "new") return nullptr;
  if (config.train.trainable == "all") return change_from_folder(config, parts.loaded.model);
  Changes changes;
  visit_linears(parts.loaded.model.weights, [&](const std::string& module, const Linear& linear) {
    if (!linear.adapter) return;
    changes.add(module, adapter_square(*linear.adapter), square_norm(linear.weight));
  });
  return changes.ratios();
}

}  // namespace tigon
