#include "ops/swiglu/swiglu.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include "support/catch.h"
#include "support/compare.h"
#include "support/gradcheck.h"
#include "support/refusal.h"
#include "support/tolerance.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

at::Tensor definition(const at::Tensor& gate, const at::Tensor& up) {
  return gate / (1 + at::exp(-gate)) * up;
}

}  // namespace

TEST_CASE("swiglu is its formula", "[swiglu]") {
  for (const int64_t N : {1, 63, 65}) {
    const at::Tensor gate = random_tensor({N, 33}, N, at::kDouble) * 5;
    const at::Tensor up = random_tensor({N, 33}, N + 1, at::kDouble);
    check_close("float64", swiglu(gate, up), definition(gate, up), kExactMath);
    check_close("float32", swiglu(gate.to(at::kFloat), up.to(at::kFloat)), definition(gate, up),
                kFloat32Op);
  }
}

TEST_CASE("swiglu gradients", "[swiglu]") {
  for (const int64_t N : {1, 63, 65}) {
    check_gradients(
        [](const std::vector<at::Tensor>& in) {
          return std::vector<at::Tensor>{swiglu(in[0], in[1])};
        },
        {{"gate", random_tensor({N, 5}, 1, at::kDouble)},
         {"up", random_tensor({N, 5}, 2, at::kDouble)}});
  }
}

TEST_CASE("swiglu takes non-contiguous input", "[swiglu]") {
  const at::Tensor both = random_tensor({63, 130}, 3).requires_grad_(true);
  const at::Tensor copy = both.detach().clone().requires_grad_(true);
  const at::Tensor found = swiglu(both.narrow(1, 0, 65), both.narrow(1, 65, 65));
  const at::Tensor expected =
      definition(copy.narrow(1, 0, 65).contiguous(), copy.narrow(1, 65, 65).contiguous());
  check_close("out", found, expected, kFloat32Op);
  const at::Tensor dout = random_tensor({63, 65}, 4);
  check_close("gradients", torch::autograd::grad({found}, {both}, {dout})[0],
              torch::autograd::grad({expected}, {copy}, {dout})[0], kFloat32Op);
}

TEST_CASE("swiglu gives frozen inputs no gradient", "[swiglu]") {
  const at::Tensor gate = random_tensor({3, 4}, 5);
  const at::Tensor up = random_tensor({3, 4}, 6).requires_grad_(true);
  swiglu(gate, up).sum().backward();
  CHECK(up.grad().defined());
  CHECK(!gate.grad().defined());
  CHECK(!swiglu(gate, up.detach()).requires_grad());
}

TEST_CASE("swiglu in bfloat16", "[swiglu]") {
  const at::Tensor gate = random_tensor({65, 127}, 7, at::kBFloat16);
  const at::Tensor up = random_tensor({65, 127}, 8, at::kBFloat16);
  check_low_precision("out", swiglu(gate, up), definition(gate, up),
                      definition(gate.to(at::kDouble), up.to(at::kDouble)));
}

TEST_CASE("swiglu refuses wrong input", "[swiglu]") {
  const at::Tensor gate = random_tensor({3, 4}, 9), up = random_tensor({3, 4}, 10);
  check_refused([&] { swiglu(gate.to(at::kLong), up.to(at::kLong)); },
                "[swiglu] gate: expected a floating-point dtype, found Long");
  check_refused([&] { swiglu(gate.flatten(), up.flatten()); },
                "[swiglu] gate: expected shape [any, any], found [12]");
  check_refused([&] { swiglu(gate, up.to(at::kBFloat16)); },
                "[swiglu] up: expected dtype Float, found BFloat16");
  check_refused(
      [&] {
        swiglu(gate, random_tensor({3, 1}, 11));
      },
      "[swiglu] up: expected shape [3, 4], found [3, 1]");
  check_refused([&] { swiglu(gate, up.to(at::kMeta)); },
                "[swiglu] up: expected device " + gate.device().str() + ", found meta");
}
