#include "linearize/calibrate.h"

#include <ATen/ATen.h>

#include "linearize/mixer_parameters.h"
#include "lora/lora.h"
#include "support/catch.h"
#include "support/tiny_model.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

const Plan kPlan = load_plan("tigon", {"window_keys=5"});

at::Tensor logits(const Model& model, const MixerStack& stack, const Batch& batch) {
  const at::NoGradGuard no_grad;
  return logits_of(model, forward_hidden(model, stack, batch, {.use_adapters = false}));
}

}  // namespace

TEST_CASE("calibrating brings a student nearer to its teacher") {
  const Model model = tiny_model();
  const Batch batch =
      make_batch({random_tokens(60, 97, 1), random_tokens(60, 97, 2)}, test_device());
  const MixerStack stack = build_stack(kPlan, model.config, model.device);
  const at::Tensor teacher = logits(model, make_teacher_stack(model.config), batch);
  const double before = (logits(model, stack, batch) - teacher).norm().item<double>();
  calibrate(model, stack, batch);
  const double after = (logits(model, stack, batch) - teacher).norm().item<double>();
  INFO(before << " -> " << after);
  CHECK(after < before);
}

TEST_CASE("calibration sees the teacher, not its adapters") {
  Model model = tiny_model();
  const Batch batch = make_batch({random_tokens(60, 97, 1)}, test_device());
  const MixerStack plain = build_stack(kPlan, model.config, model.device);
  calibrate(model, plain, batch);
  add_adapters(model.weights, {.rank = 2, .alpha = 4}, 5);
  const at::NoGradGuard no_grad;
  for (auto& [name, parameter] : adapter_parameters(model.weights)) parameter.fill_(0.3);
  const MixerStack adapted = build_stack(kPlan, model.config, model.device);
  calibrate(model, adapted, batch);
  const auto a = mixer_parameters(plain), b = mixer_parameters(adapted);
  for (size_t i = 0; i < a.size(); ++i) check_bitwise(a[i].first, b[i].second, a[i].second);
}

TEST_CASE("a copied stack has parameters of its own") {
  const Model model = tiny_model();
  const MixerStack stack = trained_tigon_stack(model.config, 64);
  const MixerStack copy = copy_stack(load_plan("tigon"), model, stack);
  const auto from = mixer_parameters(stack), to = mixer_parameters(copy);
  REQUIRE(from.size() == to.size());
  for (size_t i = 0; i < from.size(); ++i) {
    check_bitwise(from[i].first, to[i].second, from[i].second);
    CHECK_FALSE(to[i].second.is_alias_of(from[i].second));
  }
  const MixerStack windows = window_only_stack(model.config, 8);
  CHECK(copy_stack(load_plan("window"), model, windows) == windows);
}
