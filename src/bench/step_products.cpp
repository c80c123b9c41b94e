#include "bench/step_products.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace tigon {
namespace {

/// How often a linear layer's products occur in a step.
struct Uses {
  int64_t forward = 0, input_gradient = 0, weight_gradient = 0;
};

Uses operator*(int64_t layers, const Uses& uses) {
  return {layers * uses.forward, layers * uses.input_gradient, layers * uses.weight_gradient};
}

class ProductList {
 public:
  void add(const std::string& layer, int64_t tokens, int64_t in, int64_t out, const Uses& uses) {
    add_kind({layer, ProductKind::kForward, tokens, in, out, uses.forward});
    add_kind({layer, ProductKind::kInputGradient, tokens, in, out, uses.input_gradient});
    add_kind({layer, ProductKind::kWeightGradient, tokens, in, out, uses.weight_gradient});
  }
  std::vector<Product> products;

 private:
  void add_kind(Product product) {
    if (product.count > 0) products.push_back(std::move(product));
  }
};

/// Operands and results that follow each other through memory, so that no product finds its own in
/// the cache because the one before read the same.
class Pool {
 public:
  Pool(int64_t elements, const at::TensorOptions& options)
      : values_(at::randn({std::max(elements, kLeast)}, options)) {}

  at::Tensor next(int64_t rows, int64_t columns) {
    if (start_ + rows * columns > values_.numel()) start_ = 0;
    const at::Tensor matrix = values_.narrow(0, start_, rows * columns).view({rows, columns});
    start_ += (rows * columns + kAlignment - 1) / kAlignment * kAlignment;
    return matrix;
  }

 private:
  static constexpr int64_t kLeast = 1 << 20;
  static constexpr int64_t kAlignment = 128;  // elements: rows begin where vectors do
  at::Tensor values_;
  int64_t start_ = 0;
};

const char* kind_name(ProductKind kind) {
  return kind == ProductKind::kForward         ? "forward"
         : kind == ProductKind::kInputGradient ? "input gradient"
                                               : "weight gradient";
}

}  // namespace

std::vector<Product> step_products(const ModelConfig& model, const StepShape& step) {
  const int64_t N = step.tokens, M = model.hidden_size, F = model.intermediate_size;
  const int64_t queries = model.num_heads * model.head_dim;
  const int64_t keys = model.num_kv_heads * model.head_dim;
  const int64_t L = model.num_layers;
  const int64_t of_teacher = step.has_teacher ? L : 0;
  const int64_t adapter_forward = step.kept == Kept::kLayerInputs ? 2 * L : L;
  const int64_t forward = adapter_forward + of_teacher;
  const int64_t mlp_forward = (step.kept == Kept::kEverything ? L : 2 * L) + of_teacher;
  const int64_t weights = step.trains_all ? L : 0;
  // Nothing before the first layer is trained but the embedding.
  const int64_t projections_input = step.trains_all ? L : L - 1;
  const Uses projections = {forward, projections_input, weights}, output = {forward, L, weights};
  const Uses mlp = {mlp_forward, L, weights};
  ProductList list;
  if (step.is_packed && !step.trains_all) {
    list.add("q, k, v", N, M, queries + 2 * keys, projections);
    list.add("gate, up", N, M, 2 * F, mlp);
  } else {
    list.add("q", N, M, queries, projections);
    list.add("k or v", N, M, keys, 2 * projections);
    list.add("gate or up", N, M, F, 2 * mlp);
  }
  if (!step.trains_all) {
    const int64_t R = step.lora_rank;
    const Uses a = {adapter_forward, projections_input, L}, b = {adapter_forward, L, L};
    if (step.is_packed) {
      list.add("A of q, k, v", N, M, 3 * R, a);
      list.add("B of q, k, v", N, 3 * R, queries + 2 * keys, b);
    } else {
      list.add("A of q, k or v", N, M, R, 3 * a);
      list.add("B of q", N, R, queries, b);
      list.add("B of k or v", N, R, keys, 2 * b);
    }
  }
  list.add("o", N, queries, M, output);
  list.add("down", N, F, M, mlp);
  const int64_t V = model.vocab_size, C = step.logits_tokens, chunks = N / C, rest = N % C;
  const Uses head = {step.has_teacher ? 2 : 1, 1, step.trains_all ? 1 : 0};
  list.add("logits", C, M, V, chunks * head);
  if (rest > 0) list.add("logits, last chunk", rest, M, V, head);
  return std::move(list.products);
}

int64_t total_flop(const std::vector<Product>& products) {
  int64_t flop = 0;
  for (const Product& product : products) flop += product.count * product.flop();
  return flop;
}

Timing time_products(const Stopwatch& stopwatch, const std::vector<Product>& products,
                     at::ScalarType dtype) {
  const at::NoGradGuard no_gradient;
  int64_t inputs = 0, weights = 0, outputs = 0;
  for (const Product& product : products) {
    inputs = std::max(inputs, product.tokens * product.in);
    weights = std::max(weights, product.in * product.out);
    outputs = std::max(outputs, product.tokens * product.out);
  }
  const auto options = at::device(stopwatch.device()).dtype(dtype);
  Pool x(2 * inputs, options), w(2 * weights, options), y(2 * outputs, options);
  const auto multiply = [&](const Product& p) {
    const at::Tensor input = x.next(p.tokens, p.in), weight = w.next(p.out, p.in),
                     output = y.next(p.tokens, p.out);
    if (p.kind == ProductKind::kForward) return at::mm(input, weight.t());
    if (p.kind == ProductKind::kInputGradient) return at::mm(output, weight);
    return at::mm(output.t(), input);
  };
  return stopwatch.time([&](int64_t) {
    for (const Product& product : products) {
      for (int64_t i = 0; i < product.count; ++i) multiply(product);
    }
  });
}

Json products_to_json(const std::vector<Product>& products) {
  Json json = Json::array();
  for (const Product& product : products) {
    json.push_back({{"layer", product.layer},
                    {"kind", kind_name(product.kind)},
                    {"tokens", product.tokens},
                    {"in", product.in},
                    {"out", product.out},
                    {"count", product.count}});
  }
  return json;
}

}  // namespace tigon
