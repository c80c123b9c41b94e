// Activation checkpointing and gradients of the whole model.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include "model/liger_mixer.h"
#include "model/lolcats_mixer.h"
#include "model/supra_mixer.h"
#include "ops/linear_cross_entropy/linear_cross_entropy.h"
#include "support/allocations.h"
#include "support/catch.h"
#include "support/tiny_model.h"
#include "support/tolerance.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

using Gradients = std::vector<std::pair<std::string, at::Tensor>>;

enum class Trained { kEverything, kAdapters };

/// A tiny model with adapters on q and v, dropout 0.2.
Model trainable_model(Trained trained) {
  Model model = random_model(tiny_config(3));
  visit_linears(model.weights, [&](const std::string& name, Linear& linear) {
    if (!name.ends_with("q_proj") && !name.ends_with("v_proj")) return;
    const int64_t out = linear.weight.size(0), in = linear.weight.size(1);
    linear.adapter = Adapter{.a = random_tensor({2, in}, 1).requires_grad_(),
                             .b = random_tensor({out, 2}, 2).requires_grad_(),
                             .scale = 0.1,
                             .dropout = 0.2};
  });
  if (trained == Trained::kEverything) {
    visit_parameters(model.weights,
                     [](const std::string&, at::Tensor& parameter) { parameter.requires_grad_(); });
  }
  return model;
}

/// Loss and the gradient of everything that requires one.
Gradients gradients(const Model& model, const MixerStack& stack, Kept kept) {
  std::vector<at::Tensor> inputs;
  Gradients result;
  visit_parameters(model.weights, [&](const std::string& name, const at::Tensor& parameter) {
    if (!parameter.requires_grad()) return;
    inputs.push_back(parameter);
    result.emplace_back(name, at::Tensor());
  });
  visit_linears(model.weights, [&](const std::string& name, const Linear& linear) {
    if (!linear.adapter) return;
    inputs.insert(inputs.end(), {linear.adapter->a, linear.adapter->b});
    result.emplace_back(name + ".a", at::Tensor());
    result.emplace_back(name + ".b", at::Tensor());
  });
  for (size_t layer = 0; layer < stack.size(); ++layer) {
    for (const auto& [name, parameter] : stack[layer]->parameters()) {
      inputs.push_back(parameter);
      result.emplace_back(std::to_string(layer) + "." + name, at::Tensor());
    }
  }
  at::Generator generator = at::globalContext().defaultGenerator(model.device).clone();
  generator.set_current_seed(5);
  const Batch batch =
      make_batch({random_tokens(40, 97, 1), random_tokens(23, 97, 2)}, model.device);
  const at::Tensor hidden =
      forward_hidden(model, stack, batch, {.dropout_generator = generator, .kept = kept});
  const at::Tensor loss =
      linear_cross_entropy(hidden, model.weights.lm_head, next_token_targets(batch)).loss;
  const std::vector<at::Tensor> found = torch::autograd::grad({loss}, inputs);
  for (size_t i = 0; i < found.size(); ++i) result[i].second = found[i];
  result.emplace_back("loss", loss.detach());
  return result;
}

}  // namespace

// Whole layers bit for bit; with the MLP alone, two gradients meet in another order.
const auto kRecomputing = {Kept::kAllButMlp, Kept::kLayerInputs};

TEST_CASE("Recomputed layers give the same loss and gradients") {
  for (const Trained trained : {Trained::kEverything, Trained::kAdapters}) {
    const Model model = trainable_model(trained);
    const HeadShape shape = head_shape(model.config);
    const MixerStack tigon = trained_tigon_stack(model.config, 16);
    const MixerStack others = {
        make_liger_mixer(shape, {.variant = LigerVariant::kGsa, .window_keys = 16, .slots = 8}),
        make_supra_mixer(shape, {}, test_device()),
        make_lolcats_mixer(shape, {.feature_dim = 8, .window_keys = 16}, test_device())};
    for (const MixerStack& stack : {tigon, others}) {
      for (const auto& mixer : stack) {
        for (auto [name, parameter] : mixer->parameters()) parameter.requires_grad_();
      }
    }
    for (const MixerStack& stack :
         {MixerStack(3, make_softmax_mixer(shape)),
          MixerStack(3, make_liger_gla_mixer(shape, {.window_keys = 16})), tigon, others}) {
      INFO(stack.front()->describe());
      const Gradients expected = gradients(model, stack, Kept::kEverything);
      for (const Kept kept : kRecomputing) {
        const Gradients found = gradients(model, stack, kept);
        REQUIRE(found.size() == expected.size());
        for (size_t i = 0; i < expected.size(); ++i) {
          const auto& [name, gradient] = expected[i];
          if (kept == Kept::kLayerInputs) {
            check_bitwise(name, found[i].second, gradient);
          } else {
            check_close(name, found[i].second, gradient, kFloat32Op);
          }
          CHECK(gradient.abs().max().item<double>() > 0);
        }
      }
    }
  }
}

TEST_CASE("Recomputed gradients add up in .grad over two backward passes") {
  const Model model = trainable_model(Trained::kAdapters);
  const MixerStack stack = make_teacher_stack(model.config);
  const Batch batch = make_batch({random_tokens(30, 97, 1)}, model.device);
  const auto backward = [&](Kept kept) {
    forward_hidden(model, stack, batch, {.kept = kept}).square().sum().backward();
    return model.weights.layers[0].q_proj.adapter->b.grad().clone();
  };
  const at::Tensor once = backward(Kept::kLayerInputs);
  check_bitwise("gradient", backward(Kept::kLayerInputs), once * 2);
  check_close("gradient", backward(Kept::kAllButMlp), once * 3, kFloat32Op);
}

TEST_CASE("Without adapters nothing of them is trained") {
  const Model model = trainable_model(Trained::kAdapters);
  const Batch batch = make_batch({random_tokens(30, 97, 1)}, model.device);
  const MixerStack stack = make_teacher_stack(model.config);
  const ForwardOptions options{.use_adapters = false};
  CHECK_FALSE(forward_hidden(model, stack, batch, options).requires_grad());
}

TEST_CASE("Recomputing layers keeps fewer bytes until the backward pass") {
  const Model model = trainable_model(Trained::kAdapters);
  const MixerStack stack = make_teacher_stack(model.config);
  const Batch batch = make_batch({random_tokens(200, 97, 1)}, model.device);
  const auto bytes = [&](Kept kept) {
    const AllocationRecorder recorder;
    const at::Tensor hidden = forward_hidden(model, stack, batch, {.kept = kept});
    return recorder.alive();
  };
  CHECK(bytes(Kept::kLayerInputs) * 3 < bytes(Kept::kEverything));
  CHECK(bytes(Kept::kLayerInputs) < bytes(Kept::kAllButMlp));
  CHECK(bytes(Kept::kAllButMlp) < bytes(Kept::kEverything));
}
