#include "ops/swiglu/swiglu.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include "ops/op_run.h"
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

// Inputs {gate, up}.
std::vector<at::Tensor> swiglu_op(const std::vector<at::Tensor>& in) {
  return {swiglu(in[0], in[1])};
}
std::vector<at::Tensor> swiglu_definition(const std::vector<at::Tensor>& in) {
  return {definition(in[0], in[1])};
}

// Inputs {gate_up}.
std::vector<at::Tensor> packed_op(const std::vector<at::Tensor>& in) {
  return {swiglu_packed(in[0])};
}
std::vector<at::Tensor> packed_definition(const std::vector<at::Tensor>& in) {
  const std::vector<at::Tensor> halves = in[0].chunk(2, 1);
  return {definition(halves[0], halves[1])};
}

// Rows that the kernels take: of one vector, a few, a block's and more.
const std::vector<std::pair<int64_t, int64_t>> kKernelSizes = {{1, 8},    {257, 8},  {65, 24},
                                                               {63, 344}, {5, 2048}, {3, 8192 + 8}};

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

TEST_CASE("swiglu on rows of whole vectors", "[swiglu]") {
  for (const auto& [N, F] : kKernelSizes) {
    INFO("N " << N << ", F " << F);
    const std::vector<at::Tensor> inputs = {random_tensor({N, F}, 12, at::kDouble) * 4,
                                            random_tensor({N, F}, 13, at::kDouble)};
    check_runs(run_op(swiglu_op, inputs, at::kFloat),
               run_op(swiglu_definition, inputs, at::kDouble), {"out"}, {"gate", "up"}, kFloat32Op);
    check_low_precision_runs(swiglu_op, swiglu_definition, inputs, {"out"}, {"gate", "up"});
  }
}

TEST_CASE("swiglu_packed is swiglu of its halves", "[swiglu]") {
  for (const auto& [N, F] : {std::pair<int64_t, int64_t>{1, 1}, {63, 5}, {65, 33}}) {
    const at::Tensor gate_up = random_tensor({N, 2 * F}, 14, at::kDouble);
    check_runs(run_op(packed_op, {gate_up}, at::kDouble),
               run_op(packed_definition, {gate_up}, at::kDouble), {"out"}, {"gate_up"}, kExactMath);
    check_gradients(packed_op, {{"gate_up", gate_up}});
  }
  for (const auto& [N, F] : kKernelSizes) {
    INFO("N " << N << ", F " << F);
    const at::Tensor gate_up = random_tensor({N, 2 * F}, 15, at::kDouble);
    check_runs(run_op(packed_op, {gate_up}, at::kFloat),
               run_op(packed_definition, {gate_up}, at::kDouble), {"out"}, {"gate_up"}, kFloat32Op);
    check_low_precision_runs(packed_op, packed_definition, {gate_up}, {"out"}, {"gate_up"});
  }
  CHECK(!swiglu_packed(random_tensor({3, 16}, 16)).requires_grad());
}

TEST_CASE("swiglu with extreme gates stays finite", "[swiglu]") {
  const at::Tensor gate = random_tensor({9, 16}, 17) * 1e3;
  const std::vector<at::Tensor> inputs = {gate, random_tensor({9, 16}, 18)};
  const OpRun found = run_op(swiglu_op, inputs, at::kFloat);
  CHECK(at::isfinite(found.outputs[0]).all().item<bool>());
  for (const at::Tensor& gradient : found.gradients) {
    CHECK(at::isfinite(gradient).all().item<bool>());
  }
}

TEST_CASE("swiglu of rows that begin anywhere", "[swiglu]") {
  const at::Tensor wide = random_tensor({9, 147}, 19, at::kBFloat16);
  for (const int64_t offset : {0, 1, 8}) {
    const at::Tensor gate = wide.narrow(1, offset, 64), up = wide.narrow(1, 64 + offset, 64);
    check_bitwise("views", swiglu(gate, up), swiglu(gate.contiguous(), up.contiguous()));
    const at::Tensor both = wide.narrow(1, offset, 128);
    check_bitwise("packed view", swiglu_packed(both), swiglu_packed(both.contiguous()));
    check_bitwise("packed", swiglu_packed(both), swiglu(gate, up));
  }
}

TEST_CASE("swiglu is served by its kernels on a GPU", "[swiglu]") {
  for (const auto& [N, F] : kKernelSizes) {
    for (const at::ScalarType type : {at::kBFloat16, at::kHalf, at::kFloat}) {
      const at::Tensor both = random_tensor({N, 2 * F}, 20, type).requires_grad_(true);
      CHECK(is_of_own_function(swiglu_packed(both)) == test_device().is_cuda());
      CHECK(is_of_own_function(swiglu(both.narrow(1, 0, F), both.narrow(1, F, F))) ==
            test_device().is_cuda());
    }
  }
}

TEST_CASE("swiglu of more numbers than 32 bits count", "[swiglu]") {
  check_large_offsets(packed_op, 16384);
}

TEST_CASE("swiglu kernels refuse double backward", "[swiglu]") {
  const at::Tensor x = random_tensor({5, 16}, 22);
  check_double_backward(packed_op, x, "swiglu_packed");
  check_double_backward(
      [&](const std::vector<at::Tensor>& in) { return std::vector<at::Tensor>{swiglu(in[0], x)}; },
      x, "swiglu");
}

TEST_CASE("swiglu_packed refuses wrong input", "[swiglu]") {
  check_refused(
      [&] {
        swiglu_packed(random_tensor({3, 4}, 21).to(at::kLong));
      },
      "[swiglu_packed] gate_up: expected a floating-point dtype, found Long");
  check_refused([&] { swiglu_packed(random_tensor({4}, 21)); },
                "[swiglu_packed] gate_up: expected shape [any, any], found [4]");
  check_refused(
      [&] {
        swiglu_packed(random_tensor({3, 5}, 21));
      },
      "[swiglu_packed] gate_up: expected an even last dimension, found 5");
}
