#include "ops/head_norm/head_norm.h"

#include <ATen/ATen.h>

#include "ops/op_run.h"
#include "support/gradcheck.h"
#include "support/refusal.h"

namespace tigon::testing {
namespace {

constexpr double kEps = 1e-5;

std::vector<at::Tensor> norm_op(const std::vector<at::Tensor>& x) {
  return {head_norm(x[0], kEps)};
}

/// Group normalisation with a group for each head.
std::vector<at::Tensor> norm_definition(const std::vector<at::Tensor>& x) {
  const at::Tensor centred = x[0] - x[0].mean(-1, true);
  return {centred / (centred.square().mean(-1, true) + kEps).sqrt()};
}

at::Tensor heads(int64_t N, int64_t H, int64_t D) {
  return random_tensor({N, H, D}, 1, at::kDouble) * 2 + 3;
}

TEST_CASE("head_norm equals its definition, every gradient by name", "[head_norm]") {
  for (const int64_t D : {1, 8, 24, 64, 96, 128, 256, 512, 65}) {
    INFO("D " << D);
    const std::vector<at::Tensor> x = {heads(7, 3, D)};
    const OpRun expected = run_op(norm_definition, x, at::kDouble);
    if (D == 1) {  // all zeros
      CHECK(run_op(norm_op, x, at::kDouble).outputs[0].abs().max().item<double>() == 0);
      continue;
    }
    check_runs(run_op(norm_op, x, at::kDouble), expected, {"out"}, {"x"}, kExactMath);
    check_runs(run_op(norm_op, x, at::kFloat), expected, {"out"}, {"x"}, kFloat32Op);
    check_low_precision_runs(norm_op, norm_definition, x, {"out"}, {"x"});
  }
}

TEST_CASE("head_norm is group_norm without weights", "[head_norm]") {
  const at::Tensor x = heads(5, 4, 64);
  check_close("out", head_norm(x, kEps), at::group_norm(x.flatten(1), 4, {}, {}, kEps).view_as(x),
              kExactMath);
}

TEST_CASE("head_norm gradients against finite differences", "[head_norm]") {
  check_gradients(norm_op, {{"x", random_tensor({3, 2, 5}, 1, at::kDouble)}});
}

TEST_CASE("head_norm is served by its kernel on a GPU", "[head_norm]") {
  if (!test_device().is_cuda()) return;
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const at::Tensor x = heads(5, 3, 96).to(type).requires_grad_(true);
    CHECK(is_of_own_function(head_norm(x, kEps)));
  }
}

TEST_CASE("head_norm takes any memory layout and gives the same bits", "[head_norm]") {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const at::Tensor x = heads(100, 3, 64).to(type);
    // On the CPU the order of the mean's sum depends on the layout.
    check_close("out", head_norm(non_contiguous(x), kEps), head_norm(x, kEps), kBf16Product);
    check_repeatable(norm_op, {heads(100, 3, 64)}, type);
  }
  CHECK(head_norm(heads(0, 3, 64), kEps).sizes() == at::IntArrayRef({0, 3, 64}));
}

TEST_CASE("head_norm has a second derivative or says that it has none", "[head_norm]") {
  check_double_backward(norm_op, heads(3, 2, 8).to(at::kFloat), "head_norm");
}

TEST_CASE("head_norm refuses arguments that do not fit", "[head_norm]") {
  const at::Tensor x = heads(3, 2, 8);
  check_refused([&] { head_norm(x.flatten(1), kEps); },
                "[head_norm] x: expected shape [any, any, any], found [3, 16]");
  check_refused([&] { head_norm(x.to(at::kLong), kEps); },
                "[head_norm] x: expected a floating-point dtype");
  check_refused([&] { head_norm(x.narrow(2, 0, 0), kEps); },
                "[head_norm] x: expected a head size above 0, found 0");
  check_refused([&] { head_norm(x, 0); }, "[head_norm] eps: expected a number > 0, found 0");
}

}  // namespace
}  // namespace tigon::testing
