#include "ops/rms_norm/rms_norm.h"

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

constexpr double kEps = 1e-5;

// The formula, in x's own precision throughout.
at::Tensor definition(const at::Tensor& x, const at::Tensor& weight) {
  return x / at::sqrt(at::mean(x * x, -1, true) + kEps) * weight;
}

// Inputs {x, weight}.
std::vector<at::Tensor> norm_op(const std::vector<at::Tensor>& in) {
  return {rms_norm(in[0], in[1], kEps)};
}
std::vector<at::Tensor> norm_definition(const std::vector<at::Tensor>& in) {
  return {definition(in[0], in[1])};
}

// Inputs {x, residual, weight}; outputs {sum, normed}.
std::vector<at::Tensor> add_norm_op(const std::vector<at::Tensor>& in) {
  const AddRmsNormResult result = add_rms_norm(in[0], in[1], in[2], kEps);
  return {result.sum, result.normed};
}
std::vector<at::Tensor> add_norm_definition(const std::vector<at::Tensor>& in) {
  const at::Tensor sum = in[0] + in[1];
  return {sum, definition(sum, in[2])};
}
std::vector<at::Tensor> add_norm_inputs(int64_t N, int64_t M) {
  return {random_tensor({N, M}, 21, at::kDouble), random_tensor({N, M}, 22, at::kDouble),
          random_tensor({M}, 23, at::kDouble)};
}

// Rows that the kernels take: shorter than a warp's vectors, a block's, and longer; and counts that
// leave a block's last rows, or a slice of the weight's gradient, partly filled.
const std::vector<std::pair<int64_t, int64_t>> kKernelSizes = {
    {1, 8}, {257, 8}, {63, 64}, {65, 192}, {1000, 128}, {7, 1032}, {3, 4104}, {129, 2048}};

}  // namespace

TEST_CASE("rms_norm is its formula", "[rms_norm]") {
  for (const int64_t N : {1, 63, 65}) {
    for (const int64_t M : {1, 63, 64, 65}) {
      const at::Tensor x = random_tensor({N, M}, N * 100 + M, at::kDouble);
      const at::Tensor weight = random_tensor({M}, M, at::kDouble);
      const std::string size = std::to_string(N) + " x " + std::to_string(M);
      check_close("float64 " + size, rms_norm(x, weight, kEps), definition(x, weight), kExactMath);
      check_close("float32 " + size, rms_norm(x.to(at::kFloat), weight.to(at::kFloat), kEps),
                  definition(x, weight), kFloat32Op);
    }
  }
}

TEST_CASE("rms_norm gradients", "[rms_norm]") {
  for (const int64_t N : {1, 63, 65}) {
    check_gradients(
        [](const std::vector<at::Tensor>& in) {
          return std::vector<at::Tensor>{rms_norm(in[0], in[1], kEps)};
        },
        {{"x", random_tensor({N, 17}, 1, at::kDouble)},
         {"weight", random_tensor({17}, 2, at::kDouble)}});
  }
}

TEST_CASE("rms_norm takes non-contiguous input", "[rms_norm]") {
  const at::Tensor x = random_tensor({65, 63}, 3).t().requires_grad_(true);  // [63, 65]
  const at::Tensor weight = random_tensor({65, 2}, 4).select(1, 0);          // stride 2
  REQUIRE(!x.is_contiguous());
  REQUIRE(!weight.is_contiguous());
  const at::Tensor copy = x.detach().contiguous().requires_grad_(true);
  const at::Tensor found = rms_norm(x, weight, kEps);
  const at::Tensor expected = rms_norm(copy, weight.contiguous(), kEps);
  check_close("out", found, expected, kFloat32Op);
  const at::Tensor dout = random_tensor({63, 65}, 5);
  check_close("dx", torch::autograd::grad({found}, {x}, {dout})[0],
              torch::autograd::grad({expected}, {copy}, {dout})[0], kFloat32Op);
}

TEST_CASE("rms_norm gives frozen inputs no gradient", "[rms_norm]") {
  const at::Tensor x = random_tensor({5, 8}, 6).requires_grad_(true);
  const at::Tensor weight = random_tensor({8}, 7);
  rms_norm(x, weight, kEps).sum().backward();
  CHECK(x.grad().defined());
  CHECK(!weight.grad().defined());
  CHECK(!rms_norm(x.detach(), weight, kEps).requires_grad());
}

TEST_CASE("rms_norm in bfloat16", "[rms_norm]") {
  // Wide rows of large values: statistics in bfloat16 would be far off.
  const at::Tensor x = random_tensor({63, 1025}, 8, at::kBFloat16) * 100;
  const at::Tensor weight = random_tensor({1025}, 9, at::kBFloat16);
  const at::Tensor reference = definition(x.to(at::kDouble), weight.to(at::kDouble));
  check_low_precision("out", rms_norm(x, weight, kEps), definition(x, weight), reference);
  // A weight of another dtype is cast: the result keeps x's.
  check_bitwise("float32 weight", rms_norm(x, weight.to(at::kFloat), kEps),
                rms_norm(x, weight, kEps));
}

TEST_CASE("rms_norm refuses wrong input", "[rms_norm]") {
  const at::Tensor x = random_tensor({3, 4}, 10), weight = random_tensor({4}, 11);
  check_refused([&] { rms_norm(x.to(at::kLong), weight, kEps); },
                "[rms_norm] x: expected a floating-point dtype, found Long");
  check_refused([&] { rms_norm(x.unsqueeze(0), weight, kEps); },
                "[rms_norm] x: expected shape [any, any], found [1, 3, 4]");
  check_refused([&] { rms_norm(x, weight.to(at::kInt), kEps); },
                "[rms_norm] weight: expected a floating-point dtype, found Int");
  check_refused([&] { rms_norm(x, random_tensor({5}, 12), kEps); },
                "[rms_norm] weight: expected shape [4], found [5]");
  check_refused([&] { rms_norm(x, weight.to(at::kMeta), kEps); },
                "[rms_norm] weight: expected device " + x.device().str() + ", found meta");
  check_refused([&] { rms_norm(x, weight, -1.0); },
                "[rms_norm] eps: expected a number >= 0, found -1");
}

TEST_CASE("rms_norm on rows of whole vectors", "[rms_norm]") {
  for (const auto& [N, M] : kKernelSizes) {
    INFO("N " << N << ", M " << M);
    const std::vector<at::Tensor> inputs = {random_tensor({N, M}, 13, at::kDouble),
                                            random_tensor({M}, 14, at::kDouble)};
    check_runs(run_op(norm_op, inputs, at::kFloat), run_op(norm_definition, inputs, at::kDouble),
               {"out"}, {"x", "weight"}, kFloat32Op);
    check_low_precision_runs(norm_op, norm_definition, inputs, {"out"}, {"x", "weight"});
  }
}

TEST_CASE("add_rms_norm is a sum and its norm", "[rms_norm]") {
  for (const auto& [N, M] : {std::pair<int64_t, int64_t>{1, 1}, {63, 17}, {65, 33}}) {
    const std::vector<at::Tensor> inputs = add_norm_inputs(N, M);
    check_runs(run_op(add_norm_op, inputs, at::kDouble),
               run_op(add_norm_definition, inputs, at::kDouble), {"sum", "normed"},
               {"x", "residual", "weight"}, kExactMath);
    check_gradients(add_norm_op,
                    {{"x", inputs[0]}, {"residual", inputs[1]}, {"weight", inputs[2]}});
  }
  for (const auto& [N, M] : kKernelSizes) {
    INFO("N " << N << ", M " << M);
    const std::vector<at::Tensor> inputs = add_norm_inputs(N, M);
    check_runs(run_op(add_norm_op, inputs, at::kFloat),
               run_op(add_norm_definition, inputs, at::kDouble), {"sum", "normed"},
               {"x", "residual", "weight"}, kFloat32Op);
    check_low_precision_runs(add_norm_op, add_norm_definition, inputs, {"sum", "normed"},
                             {"x", "residual", "weight"});
  }
}

TEST_CASE("add_rms_norm is the two ops it stands for, to the last bit", "[rms_norm]") {
  for (const at::ScalarType type : {at::kBFloat16, at::kFloat}) {
    const at::Tensor x = random_tensor({65, 128}, 15, type),
                     residual = random_tensor({65, 128}, 16, type);
    const at::Tensor weight = random_tensor({128}, 17, type);
    const AddRmsNormResult found = add_rms_norm(x, residual, weight, kEps);
    check_bitwise("sum", found.sum, x + residual);
    check_bitwise("normed", found.normed, rms_norm(x + residual, weight, kEps));
  }
}

TEST_CASE("add_rms_norm takes the gradient of either output alone", "[rms_norm]") {
  for (const int64_t M : {17, 64}) {
    for (const size_t used : {0, 1}) {
      INFO("M " << M << ", output " << used);
      const auto only = [used](const OpFunction& op) -> OpFunction {
        return [used, op](const std::vector<at::Tensor>& in) {
          std::vector<at::Tensor> outputs = op(in);
          // Every input takes part, so that each has a gradient.
          return std::vector<at::Tensor>{outputs[used] + 0 * in[2]};
        };
      };
      const std::vector<at::Tensor> inputs = add_norm_inputs(9, M);
      check_runs(run_op(only(add_norm_op), inputs, at::kFloat),
                 run_op(only(add_norm_definition), inputs, at::kDouble), {"out"},
                 {"x", "residual", "weight"}, kFloat32Op);
    }
  }
}

TEST_CASE("add_rms_norm gives frozen inputs no gradient", "[rms_norm]") {
  check_frozen_inputs(add_norm_op, add_norm_inputs(5, 8), {"x", "residual", "weight"});
  for (const size_t trained : {0, 1, 2}) {  // the kernels, which float64 does not reach
    std::vector<at::Tensor> inputs = add_norm_inputs(5, 64);
    for (at::Tensor& input : inputs) input = input.to(at::kFloat);
    inputs[trained].requires_grad_(true);
    add_rms_norm(inputs[0], inputs[1], inputs[2], kEps).normed.sum().backward();
    for (const size_t i : {0, 1, 2}) CHECK(inputs[i].grad().defined() == (i == trained));
  }
}

TEST_CASE("rms_norm of rows that begin anywhere", "[rms_norm]") {
  const at::Tensor wide = random_tensor({9, 131}, 18, at::kBFloat16);
  const at::Tensor weight = random_tensor({65}, 19, at::kBFloat16);
  for (const auto& [offset, M] : {std::pair<int64_t, int64_t>{0, 64}, {1, 64}, {3, 128}}) {
    const at::Tensor view = wide.narrow(1, offset, M);
    const at::Tensor scale = M == 64 ? weight.narrow(0, 1, 64) : wide[0].narrow(0, 1, 128);
    check_bitwise("view", rms_norm(view, scale, kEps),
                  rms_norm(view.contiguous(), scale.clone(), kEps));
  }
}

TEST_CASE("rms_norm gives the same bits every time", "[rms_norm]") {
  for (const at::ScalarType type : {at::kBFloat16, at::kFloat}) {
    check_repeatable(add_norm_op, add_norm_inputs(1000, 128), type);
  }
}

TEST_CASE("rms_norm is served by its kernels on a GPU", "[rms_norm]") {
  for (const auto& [N, M] : kKernelSizes) {
    for (const at::ScalarType type : {at::kBFloat16, at::kHalf, at::kFloat}) {
      const at::Tensor x = random_tensor({N, M}, 20, type).requires_grad_(true);
      const at::Tensor weight = random_tensor({M}, 21, type);
      CHECK(is_of_own_function(rms_norm(x, weight, kEps)) == test_device().is_cuda());
      CHECK(is_of_own_function(add_rms_norm(x, x, weight, kEps).normed) == test_device().is_cuda());
    }
  }
}

TEST_CASE("rms_norm of more numbers than 32 bits count", "[rms_norm]") {
  const at::Tensor weight = random_tensor({4096}, 24, at::kBFloat16);
  check_large_offsets(
      [&](const std::vector<at::Tensor>& in) {
        return std::vector<at::Tensor>{rms_norm(in[0], weight, kEps)};
      },
      4096);
}

TEST_CASE("rms_norm kernels refuse double backward", "[rms_norm]") {
  const at::Tensor x = random_tensor({5, 16}, 25), weight = random_tensor({16}, 26);
  check_double_backward(
      [&](const std::vector<at::Tensor>& in) {
        return std::vector<at::Tensor>{rms_norm(in[0], weight, kEps)};
      },
      x, "rms_norm");
  check_double_backward(
      [&](const std::vector<at::Tensor>& in) {
        return std::vector<at::Tensor>{add_rms_norm(in[0], x, weight, kEps).normed};
      },
      x, "add_rms_norm");
}

TEST_CASE("add_rms_norm refuses wrong input", "[rms_norm]") {
  const at::Tensor x = random_tensor({3, 4}, 10), weight = random_tensor({4}, 11);
  check_refused([&] { add_rms_norm(x[0], x, weight, kEps); },
                "[add_rms_norm] x: expected shape [any, any], found [4]");
  check_refused([&] { add_rms_norm(x, x.to(at::kBFloat16), weight, kEps); },
                "[add_rms_norm] residual: expected dtype Float, found BFloat16");
  check_refused([&] { add_rms_norm(x, x.narrow(0, 0, 2), weight, kEps); },
                "[add_rms_norm] residual: expected shape [3, 4], found [2, 4]");
  check_refused([&] { add_rms_norm(x, x.to(at::kMeta), weight, kEps); },
                "[add_rms_norm] residual: expected device " + x.device().str() + ", found meta");
  check_refused([&] { add_rms_norm(x, x, random_tensor({5}, 12), kEps); },
                "[add_rms_norm] weight: expected shape [4], found [5]");
}
