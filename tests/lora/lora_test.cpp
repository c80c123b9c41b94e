#include "lora/lora.h"

#include <ATen/ATen.h>

#include <cmath>

#include "support/catch.h"
#include "support/compare.h"
#include "support/refusal.h"
#include "support/tiny_model.h"
#include "support/tolerance.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

const LoraOptions kOptions = {
    .rank = 4, .alpha = 6, .dropout = 0, .targets = {"q_proj", "up_proj"}};

LoraOptions read(const std::string& yaml) {
  ConfigReader root = ConfigReader::from_text("lora: {" + yaml + "}", "test.yaml");
  ConfigReader section = root.section("lora");
  const LoraOptions options = read_lora_options(section);
  root.finish();
  return options;
}

// B is zero after add_adapters: training is what makes it different.
void randomise_b(ModelWeights& weights) {
  const at::NoGradGuard no_gradient;
  uint64_t seed = 50;
  for (const auto& [name, tensor] : adapter_parameters(weights)) {
    if (name.ends_with("lora_B.weight"))
      at::Tensor(tensor).copy_(random_tensor(tensor.sizes(), seed++));
  }
}

at::Tensor logits(const Model& model, bool use_adapters = true) {
  const Batch batch = make_batch({random_tokens(37, model.config.vocab_size, 3)}, model.device);
  ForwardOptions options;
  options.use_adapters = use_adapters;
  return logits_of(model, forward_hidden(model, make_teacher_stack(model.config), batch, options));
}

}  // namespace

TEST_CASE("lora options", "[lora]") {
  const LoraOptions defaults = read("");
  CHECK(defaults.rank == 8);
  CHECK(defaults.alpha == 8);
  CHECK(defaults.dropout == 0);
  CHECK(defaults.targets == std::vector<std::string>{"q_proj", "k_proj", "v_proj"});
  const LoraOptions options = read("rank: 16, alpha: 32, dropout: 0.1, targets: [o_proj]");
  CHECK(options.rank == 16);
  CHECK(options.alpha == 32);
  CHECK(options.dropout == 0.1);
  CHECK(options.targets == std::vector<std::string>{"o_proj"});
}

TEST_CASE("lora options refuse impossible values", "[lora]") {
  check_refused([] { read("rank: 0"); }, "lora.rank");
  check_refused([] { read("alpha: 0"); }, "lora.alpha");
  check_refused([] { read("dropout: 1.5"); }, "lora.dropout");
  check_refused([] { read("dropout: 1"); }, "lora.dropout: expected a number below 1, found 1");
  check_refused([] { read("targets: []"); }, "lora.targets: expected at least one module name");
  check_refused([] { read("rnk: 4"); }, "lora.rnk");
}

TEST_CASE("add_adapters puts float32 adapters on the targets and freezes the base", "[lora]") {
  Model model = tiny_model(1, at::kBFloat16);
  visit_parameters(model.weights, [](const std::string& name, at::Tensor& parameter) {
    parameter.requires_grad_(true);
  });
  add_adapters(model.weights, kOptions, 7);
  visit_parameters(model.weights, [](const std::string& name, at::Tensor& parameter) {
    INFO(name);
    CHECK(!parameter.requires_grad());
  });
  const auto parameters = adapter_parameters(model.weights);
  REQUIRE(parameters.size() == 2 * 2 * model.weights.layers.size());
  CHECK(parameters[0].first == "model.layers.0.self_attn.q_proj.lora_A.weight");
  CHECK(parameters[1].first == "model.layers.0.self_attn.q_proj.lora_B.weight");
  CHECK(parameters[2].first == "model.layers.0.mlp.up_proj.lora_A.weight");
  for (const auto& [name, tensor] : parameters) {
    INFO(name);
    CHECK(tensor.scalar_type() == at::kFloat);
    CHECK(tensor.device() == model.device);
    CHECK(tensor.requires_grad());
    if (name.ends_with("lora_B.weight")) {
      CHECK(tensor.count_nonzero().item<int64_t>() == 0);
      continue;
    }
    // Uniform in ±1/√in: the variance is a third of the square.
    const double bound = 1 / std::sqrt(static_cast<double>(tensor.size(1)));
    CHECK(tensor.size(0) == kOptions.rank);
    CHECK(tensor.abs().max().item<double>() <= bound);
    CHECK(tensor.abs().max().item<double>() > 0.9 * bound);
    CHECK(tensor.square().mean().item<double>() == Approx(bound * bound / 3).epsilon(0.3));
  }
  const Adapter& adapter = *model.weights.layers[0].q_proj.adapter;
  CHECK(adapter.scale == 1.5);
  CHECK(!model.weights.layers[0].k_proj.adapter);
}

TEST_CASE("adapters depend on the seed and their layer's name alone", "[lora]") {
  const auto first_a = [](uint64_t seed, std::vector<std::string> targets) {
    Model model = tiny_model();
    add_adapters(model.weights, {.rank = 4, .alpha = 4, .targets = std::move(targets)}, seed);
    return model.weights.layers[1].q_proj.adapter->a;
  };
  check_bitwise("same seed", first_a(5, {"q_proj"}), first_a(5, {"k_proj", "q_proj"}));
  CHECK(relative_rms(first_a(5, {"q_proj"}), first_a(6, {"q_proj"})) > 0.5);
  Model model = tiny_model();
  add_adapters(model.weights, kOptions, 5);
  CHECK(relative_rms(model.weights.layers[0].q_proj.adapter->a,
                     model.weights.layers[1].q_proj.adapter->a) > 0.5);
}

TEST_CASE("a target may be a whole module name", "[lora]") {
  Model model = tiny_model();
  const std::vector<std::string> targets = {"model.layers.1.self_attn.v_proj", "mlp.up_proj"};
  const std::vector<std::string> expected = {"model.layers.0.mlp.up_proj",
                                             "model.layers.1.self_attn.v_proj",
                                             "model.layers.1.mlp.up_proj"};
  CHECK(lora_modules(model.weights, targets) == expected);
}

TEST_CASE("add_adapters refuses targets that name nothing and layers that have one", "[lora]") {
  Model model = tiny_model();
  LoraOptions wrong = kOptions;
  wrong.targets = {"q_proj", "query"};
  check_refused([&] { add_adapters(model.weights, wrong, 1); },
                "lora.targets: expected names of linear layers (down_proj, gate_proj, k_proj, "
                "o_proj, q_proj, up_proj, v_proj), found \"query\"");
  wrong.targets = {"proj"};  // the end of a name, but not a part of it
  check_refused([&] { add_adapters(model.weights, wrong, 1); }, "found \"proj\"");
  CHECK(adapter_parameters(model.weights).empty());
  add_adapters(model.weights, kOptions, 1);
  check_refused([&] { add_adapters(model.weights, kOptions, 1); },
                "model.layers.0.self_attn.q_proj: expected a layer without an adapter");
}

TEST_CASE("fresh adapters change nothing, trained ones do, switched off they do not", "[lora]") {
  Model model = tiny_model();
  const at::Tensor base = logits(model);
  add_adapters(model.weights, kOptions, 1);
  check_close("fresh", logits(model), base, kFloat32Model);
  randomise_b(model.weights);
  CHECK(relative_rms(logits(model), base) > 0.01);
  check_bitwise("off", logits(model, false), base);
  remove_adapters(model.weights);
  CHECK(adapter_parameters(model.weights).empty());
  check_bitwise("removed", logits(model), base);
}

TEST_CASE("training reaches the adapters and nothing else", "[lora]") {
  Model model = tiny_model();
  add_adapters(model.weights, kOptions, 1);
  randomise_b(model.weights);
  logits(model).square().mean().backward();
  for (const auto& [name, tensor] : adapter_parameters(model.weights)) {
    INFO(name);
    REQUIRE(tensor.grad().defined());
    CHECK(tensor.grad().norm().item<double>() > 0);
  }
  visit_parameters(model.weights, [](const std::string& name, at::Tensor& parameter) {
    INFO(name);
    CHECK(!parameter.grad().defined());
  });
}

TEST_CASE("merged and unmerged adapters give the same logits", "[lora]") {
  Model model = tiny_model();
  add_adapters(model.weights, kOptions, 1);
  randomise_b(model.weights);
  Model merged = model;
  merge_adapters(merged.weights);
  CHECK(adapter_parameters(merged.weights).empty());
  check_close("logits", logits(merged), logits(model), kMergedFloat32);
  // The model it was copied from keeps its weights.
  CHECK(!adapter_parameters(model.weights).empty());
  check_bitwise("original", model.weights.layers[0].q_proj.weight,
                tiny_model().weights.layers[0].q_proj.weight);
}

TEST_CASE("merging into bfloat16 rounds once", "[lora]") {
  Model model = tiny_model(1, at::kBFloat16);
  add_adapters(model.weights, kOptions, 1);
  randomise_b(model.weights);
  const Linear before = model.weights.layers[0].q_proj;
  const at::Tensor untouched = model.weights.layers[0].k_proj.weight;
  merge_adapters(model.weights);
  const at::NoGradGuard no_gradient;
  const at::Tensor expected =
      (before.weight.to(at::kFloat) + 1.5 * at::mm(before.adapter->b, before.adapter->a))
          .to(at::kBFloat16);
  check_bitwise("q_proj", model.weights.layers[0].q_proj.weight, expected);
  CHECK(!model.weights.layers[0].q_proj.weight.requires_grad());
  CHECK(model.weights.layers[0].k_proj.weight.is_same(untouched));
}
