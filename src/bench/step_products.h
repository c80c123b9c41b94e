// The matrix products of a training step, by shape: what the step would take if nothing else did.
#pragma once
#include <string>
#include <vector>

#include "bench/work.h"
#include "model/forward.h"

namespace tigon {

/// What a linear layer y = x Wᵀ with x [tokens, in] and W [out, in] has multiplied.
enum class ProductKind {
  kForward,         // x Wᵀ
  kInputGradient,   // dy W
  kWeightGradient,  // dyᵀ x
};

struct Product {
  std::string layer;  // "q, k, v", "down", "logits", …
  ProductKind kind = ProductKind::kForward;
  int64_t tokens = 0, in = 0, out = 0;
  int64_t count = 1;  // times in a step

  /// Of one: two a multiply-add.
  int64_t flop() const { return 2 * tokens * in * out; }
  bool operator==(const Product&) const = default;
};

struct StepShape {
  int64_t tokens = 0;             // of a step
  bool trains_all = false;        // all weights; else adapters on q, k and v of frozen weights
  int64_t lora_rank = 0;          // of those adapters
  bool is_packed = true;          // frozen q, k, v and gate, up are one product each
  Kept kept = Kept::kEverything;  // what is not kept runs forward a second time
  bool has_teacher = false;       // a forward pass without adapters for its part of the loss
  int64_t logits_tokens = 0;      // of a chunk of the loss
};

/// Every product of the linear layers, the adapters and the head that a step needs for what it
/// trains: gradients of frozen weights and of the first layer's input are not among them. Mixers
/// are not counted.
std::vector<Product> step_products(const ModelConfig& model, const StepShape& step);

/// Operations of all of them.
int64_t total_flop(const std::vector<Product>& products);

/// Times the products of a step, one after another, on random numbers.
Timing time_products(const Stopwatch& stopwatch, const std::vector<Product>& products,
                     at::ScalarType dtype);

/// [{"layer", "kind", "tokens", "in", "out", "count"}, …].
Json products_to_json(const std::vector<Product>& products);

}  // namespace tigon
