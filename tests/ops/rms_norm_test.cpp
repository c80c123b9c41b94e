#include "ops/rms_norm/rms_norm.h"

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

constexpr double kEps = 1e-5;

// The formula, in x's own precision throughout.
at::Tensor definition(const at::Tensor& x, const at::Tensor& weight) {
  return x / at::sqrt(at::mean(x * x, -1, true) + kEps) * weight;
}

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
