#include "train/optimizer.h"

#include <ATen/ATen.h>

#include "model/tensor_io.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/temporary_folder.h"
#include "support/tolerance.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

/// "c" is one that a recipe adds.
std::vector<Parameter> make_parameters() {
  std::vector<Parameter> parameters;
  parameters.push_back({"a", random_tensor({7, 5}, 1).requires_grad_(true)});
  parameters.push_back({"c", random_tensor({4, 3}, 3).requires_grad_(true), /*is_new=*/true});
  parameters.push_back({"b", random_tensor({33}, 2).requires_grad_(true)});
  return parameters;
}

at::Tensor gradient_of(const Parameter& parameter, int step, size_t index) {
  return random_tensor(parameter.tensor.sizes(), 100 * static_cast<uint64_t>(step) + index);
}

void set_gradients(const std::vector<Parameter>& parameters, int step) {
  for (size_t i = 0; i < parameters.size(); ++i) {
    parameters[i].tensor.mutable_grad() = gradient_of(parameters[i], step, i);
  }
}

/// The same steps by the textbook formula, in float64.
std::vector<at::Tensor> expected_after(int steps, const OptimizerOptions& options, double lr) {
  const std::vector<Parameter> parameters = make_parameters();
  std::vector<at::Tensor> values, m, v;
  for (const Parameter& parameter : parameters) {
    values.push_back(parameter.tensor.detach().to(at::kDouble));
    m.push_back(at::zeros_like(values.back()));
    v.push_back(at::zeros_like(values.back()));
  }
  for (int step = 1; step <= steps; ++step) {
    std::vector<at::Tensor> gradients;
    double squares = 0;
    for (size_t i = 0; i < parameters.size(); ++i) {
      gradients.push_back(gradient_of(parameters[i], step, i).to(at::kDouble));
      squares += gradients[i].square().sum().item<double>();
    }
    const double norm = std::sqrt(squares);
    const double clip =
        options.clip_norm > 0 ? std::min(1.0, options.clip_norm / (norm + 1e-6)) : 1.0;
    for (size_t i = 0; i < parameters.size(); ++i) {
      const at::Tensor g = gradients[i] * clip;
      const double rate = parameters[i].is_new ? lr * options.new_lr / options.lr : lr;
      const double decay = parameters[i].is_new ? options.new_weight_decay : options.weight_decay;
      values[i] = values[i] * (1 - rate * decay);
      m[i] = options.beta1 * m[i] + (1 - options.beta1) * g;
      v[i] = options.beta2 * v[i] + (1 - options.beta2) * g * g;
      const at::Tensor m_hat = m[i] / (1 - std::pow(options.beta1, step));
      const at::Tensor v_hat = v[i] / (1 - std::pow(options.beta2, step));
      values[i] = values[i] - rate * m_hat / (v_hat.sqrt() + options.eps);
    }
  }
  return values;
}

void check_against_formula(const OptimizerOptions& options) {
  constexpr int kSteps = 6;
  constexpr double kRate = 0.02;
  const std::vector<Parameter> parameters = make_parameters();
  AdamW optimizer(parameters, options);
  for (int step = 1; step <= kSteps; ++step) {
    set_gradients(parameters, step);
    optimizer.set_rate(kRate);
    optimizer.step();
  }
  const auto expected = expected_after(kSteps, options, kRate);
  for (size_t i = 0; i < parameters.size(); ++i) {
    check_close(parameters[i].name, parameters[i].tensor, expected[i], kFloat32Op);
  }
}

}  // namespace

TEST_CASE("AdamW follows its formula", "[optimizer]") {
  check_against_formula({.weight_decay = 0.1, .clip_norm = 0});
  check_against_formula(
      {.beta1 = 0.8, .beta2 = 0.95, .eps = 1e-3, .weight_decay = 0, .clip_norm = 0});
}

TEST_CASE("AdamW gives the parameters of a recipe their own rate and decay", "[optimizer]") {
  check_against_formula({.lr = 1e-3, .weight_decay = 0.1, .new_lr = 3e-3, .new_weight_decay = 0});
  check_against_formula({.lr = 1e-3, .new_lr = 1e-4, .new_weight_decay = 0.3, .clip_norm = 0.5});
}

TEST_CASE("AdamW clips the gradient over all tensors", "[optimizer]") {
  check_against_formula({.weight_decay = 0.01, .clip_norm = 0.5});
  check_against_formula({.weight_decay = 0.01, .clip_norm = 1e6});  // nothing to clip
}

TEST_CASE("AdamW reports the norm before clipping", "[optimizer]") {
  const std::vector<Parameter> parameters = make_parameters();
  AdamW optimizer(parameters, {.clip_norm = 0.5});
  for (const Parameter& parameter : parameters) {
    parameter.tensor.mutable_grad() = at::full_like(parameter.tensor, 3.0);
  }
  optimizer.set_rate(1e-3);
  CHECK(optimizer.step().item<float>() == Approx(3.0 * std::sqrt(7 * 5 + 4 * 3 + 33)));
}

TEST_CASE("a restored AdamW goes on bitwise", "[optimizer]") {
  const TemporaryFolder folder;
  const std::vector<Parameter> first = make_parameters(), second = make_parameters();
  AdamW one(first, {}), two(second, {});
  for (int step = 1; step <= 3; ++step) {
    set_gradients(first, step);
    one.step();
  }
  save_tensors(folder / "optimizer.safetensors", one.state());
  for (size_t i = 0; i < first.size(); ++i)
    second[i].tensor.detach().copy_(first[i].tensor.detach());
  two.restore(folder / "optimizer.safetensors");
  for (const auto* parameters : {&first, &second}) set_gradients(*parameters, 4);
  one.step();
  two.step();
  for (size_t i = 0; i < first.size(); ++i) {
    check_bitwise(first[i].name, second[i].tensor, first[i].tensor);
  }
}

TEST_CASE("AdamW frees gradients", "[optimizer]") {
  const std::vector<Parameter> parameters = make_parameters();
  AdamW optimizer(parameters, {});
  set_gradients(parameters, 1);
  optimizer.zero_grad();
  for (const Parameter& parameter : parameters) CHECK_FALSE(parameter.tensor.grad().defined());
}
