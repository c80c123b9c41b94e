#include "model/linear.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "support/catch.h"
#include "support/compare.h"
#include "support/tolerance.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

Linear adapted_linear(double dropout) {
  return {.weight = random_tensor({7, 12}, 1),
          .bias = random_tensor({7}, 2),
          .adapter = Adapter{.a = random_tensor({3, 12}, 3),
                             .b = random_tensor({7, 3}, 4),
                             .scale = 0.5,
                             .dropout = dropout}};
}

at::Generator generator(uint64_t seed) {
  at::Generator made = at::globalContext().defaultGenerator(test_device()).clone();
  made.set_current_seed(seed);
  return made;
}

}  // namespace

TEST_CASE("An adapter adds scale · B A x, unless it is off") {
  const Linear linear = adapted_linear(0);
  const at::Tensor x = random_tensor({9, 12}, 5);
  const at::Tensor plain = x.matmul(linear.weight.t()) + linear.bias;
  const at::Tensor update = x.matmul(linear.adapter->a.t()).matmul(linear.adapter->b.t()) * 0.5;
  check_close("off", linear.forward(x, false, {}), plain, kFloat32Op);
  check_close("on", linear.forward(x, true, {}), plain + update, kFloat32Op);
}

TEST_CASE("A layer without bias or adapter is a matrix product") {
  const Linear linear{.weight = random_tensor({7, 12}, 1)};
  const at::Tensor x = random_tensor({9, 12}, 5);
  check_close("output", linear.forward(x, true, {}), x.matmul(linear.weight.t()), kFloat32Op);
}

TEST_CASE("The output has the input's dtype, whatever the weights have") {
  const Linear linear = adapted_linear(0);
  const at::Tensor x = random_tensor({9, 12}, 5, at::kBFloat16);
  CHECK(linear.forward(x, false, {}).scalar_type() == at::kBFloat16);
  CHECK(linear.forward(x, true, {}).scalar_type() == at::kBFloat16);
}

TEST_CASE("Dropout acts only with a generator, on the adapter's input only") {
  const Linear linear = adapted_linear(0.25);
  const at::Tensor x = random_tensor({400, 12}, 5);
  const at::Tensor without = linear.forward(x, true, {});
  const at::Tensor dropped = linear.forward(x, true, generator(1));
  CHECK(relative_rms(dropped, without) > 0.05);
  check_bitwise("same seed", linear.forward(x, true, generator(1)), dropped);
  CHECK(relative_rms(linear.forward(x, true, generator(2)), dropped) > 0.05);
  check_bitwise("adapter off", linear.forward(x, false, generator(1)),
                linear.forward(x, false, {}));
}

TEST_CASE("Dropout keeps 1−p of the inputs and scales them by 1/(1−p)") {
  Linear linear{.weight = at::zeros({64, 64}, test_device())};
  const at::Tensor identity = at::eye(64, at::device(test_device()));
  linear.adapter = Adapter{.a = identity, .b = identity, .scale = 1, .dropout = 0.25};
  const at::Tensor x = at::ones({1000, 64}, test_device());
  const at::Tensor mask = linear.forward(x, true, generator(1));
  CHECK(at::logical_or(mask == 0, (mask - 1 / 0.75).abs() < 1e-6).all().item<bool>());
  CHECK(mask.mean().item<double>() == Approx(1).margin(0.01));
}
