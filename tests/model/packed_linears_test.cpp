#include "model/packed_linears.h"

#include <ATen/ATen.h>

#include "model/forward.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/tiny_model.h"
#include "support/tolerance.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

Linear linear(int64_t out, int64_t in, uint64_t seed, bool has_bias = false) {
  Linear result{.weight = random_tensor({out, in}, seed).to(test_device())};
  if (has_bias) result.bias = random_tensor({out}, seed + 100).to(test_device());
  return result;
}

void add_adapter(Linear& layer, uint64_t seed, double scale = 0.5, double dropout = 0) {
  layer.adapter = Adapter{.a = random_tensor({3, layer.weight.size(1)}, seed).to(test_device()),
                          .b = random_tensor({layer.weight.size(0), 3}, seed + 1).to(test_device()),
                          .scale = scale,
                          .dropout = dropout};
}

/// q, k and v of sizes 6, 4 and 4 over 10 inputs.
LayerWeights three_layers(bool has_bias = false) {
  LayerWeights layer;
  layer.q_proj = linear(6, 10, 1, has_bias);
  layer.k_proj = linear(4, 10, 2, has_bias);
  layer.v_proj = linear(4, 10, 3, has_bias);
  layer.gate_proj = linear(8, 10, 4);
  layer.up_proj = linear(8, 10, 5);
  return layer;
}

std::vector<const Linear*> attention(const LayerWeights& layer) {
  return {&layer.q_proj, &layer.k_proj, &layer.v_proj};
}

at::Tensor one_by_one(const std::vector<const Linear*>& linears, const at::Tensor& x) {
  std::vector<at::Tensor> results;
  for (const Linear* each : linears) results.push_back(each->forward(x, true, {}));
  return at::cat(results, 1);
}

}  // namespace

TEST_CASE("packed layers give what each gives", "[packed_linears]") {
  const at::Tensor x = random_tensor({7, 10}, 9).to(test_device());
  for (const bool has_bias : {false, true}) {
    for (const bool has_adapters : {false, true}) {
      ModelWeights weights;
      weights.layers = {three_layers(has_bias)};
      LayerWeights& layer = weights.layers[0];
      if (has_adapters) {
        add_adapter(layer.q_proj, 20);
        add_adapter(layer.k_proj, 30);
        add_adapter(layer.v_proj, 40);
      }
      const at::Tensor expected = one_by_one(attention(layer), x);
      CHECK_FALSE(forward_packed(attention(layer), x, true, {}).defined());
      const at::Tensor q = layer.q_proj.weight.clone();
      pack_linears(weights);
      check_bitwise("q_proj.weight", layer.q_proj.weight, q);
      const at::Tensor found = forward_packed(attention(layer), x, true, {});
      REQUIRE(found.defined());
      check_close("packed", found, expected, kFloat32Op);
      check_close("together", at::cat(forward_together(attention(layer), x, true, {}), 1), expected,
                  kFloat32Op);
      CHECK(forward_packed({&layer.gate_proj, &layer.up_proj}, x, true, {}).defined());
    }
  }
}

TEST_CASE("layers that differ in kind are not packed", "[packed_linears]") {
  const at::Tensor x = random_tensor({7, 10}, 9).to(test_device());
  const auto is_packed = [&](const std::function<void(LayerWeights&)>& change) {
    ModelWeights weights;
    weights.layers = {three_layers()};
    pack_linears(weights);
    LayerWeights& layer = weights.layers[0];
    change(layer);
    const at::Tensor found = forward_packed(attention(layer), x, true, {});
    // Whatever way they are run, the result is theirs.
    check_close("together", at::cat(forward_together(attention(layer), x, true, {}), 1),
                one_by_one(attention(layer), x), kFloat32Op);
    return found.defined();
  };
  CHECK(is_packed([](LayerWeights&) {}));
  CHECK_FALSE(is_packed([](LayerWeights& layer) { add_adapter(layer.q_proj, 20); }));
  CHECK_FALSE(is_packed([](LayerWeights& layer) {
    add_adapter(layer.q_proj, 20, 0.5);
    add_adapter(layer.k_proj, 30, 0.25);
    add_adapter(layer.v_proj, 40, 0.5);
  }));
  CHECK_FALSE(is_packed([](LayerWeights& layer) {
    layer.k_proj.bias = at::ones_like(layer.k_proj.weight.select(1, 0));
  }));
  // A merged adapter leaves a weight of its own.
  CHECK_FALSE(
      is_packed([](LayerWeights& layer) { layer.k_proj.weight = layer.k_proj.weight.clone(); }));
  CHECK_FALSE(is_packed([](LayerWeights& layer) { layer.v_proj.weight.requires_grad_(); }));
}

TEST_CASE("adapters with dropout draw a mask each", "[packed_linears]") {
  ModelWeights weights;
  weights.layers = {three_layers()};
  pack_linears(weights);
  LayerWeights& layer = weights.layers[0];
  for (Linear* each : {&layer.q_proj, &layer.k_proj, &layer.v_proj}) {
    add_adapter(*each, 20, 0.5, 0.1);
  }
  const at::Tensor x = random_tensor({7, 10}, 9).to(test_device());
  CHECK(forward_packed(attention(layer), x, true, {}).defined());
  const at::Generator generator = at::globalContext().defaultGenerator(test_device()).clone();
  CHECK_FALSE(forward_packed(attention(layer), x, true, generator).defined());
}

TEST_CASE("weights that are trained stay where they are", "[packed_linears]") {
  ModelWeights weights;
  weights.layers = {three_layers()};
  weights.layers[0].k_proj.weight.requires_grad_();
  const at::Tensor k = weights.layers[0].k_proj.weight;
  pack_linears(weights);
  CHECK(weights.layers[0].k_proj.weight.is_same(k));
  CHECK_FALSE(weights.layers[0].q_proj.weight.is_alias_of(weights.layers[0].v_proj.weight));
}

TEST_CASE("a model with packed weights gives the same logits", "[packed_linears]") {
  Model model = random_model(tiny_config(2));
  const Batch batch = make_batch({random_tokens(30, 97, 1)}, model.device);
  const MixerStack stack = make_teacher_stack(model.config);
  const at::Tensor expected = forward_hidden(model, stack, batch);
  pack_linears(model.weights);
  check_close("hidden", forward_hidden(model, stack, batch), expected, kFloat32Op);
}
