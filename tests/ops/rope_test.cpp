#include "ops/rope/rope.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <array>

#include "ops/op_run.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/gradcheck.h"
#include "support/refusal.h"
#include "support/tolerance.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

at::Tensor inverse_frequencies(int64_t head_dim) {
  const at::Tensor exponents = at::arange(0, head_dim, 2, at::kDouble) / head_dim;
  return at::pow(10000.0, -exponents).to(at::kFloat).to(test_device());
}

at::Tensor token_positions(int64_t first, int64_t count) {
  return at::arange(first, first + count, at::TensorOptions(at::kLong).device(test_device()));
}

// Pairs (x_i, x_{i + D/2}) as complex numbers, turned by e^{i·angle}; angles [N, D/2] float64.
at::Tensor complex_rotation(const at::Tensor& x, const at::Tensor& angles, double scale) {
  const int64_t half = x.size(2) / 2;
  const at::Tensor wide = x.to(at::kDouble);
  const at::Tensor turned = at::complex(wide.narrow(2, 0, half), wide.narrow(2, half, half)) *
                            at::polar(at::full_like(angles, scale), angles).unsqueeze(1);
  return at::cat({at::real(turned), at::imag(turned)}, 2);
}

}  // namespace

TEST_CASE("rope turns pairs as complex numbers", "[rope]") {
  for (const int64_t N : {1, 63, 65}) {
    for (const int64_t D : {2, 6, 64}) {
      const at::Tensor x = random_tensor({N, 3, D}, N + D, at::kDouble);
      const at::Tensor where = token_positions(7, N), frequencies = inverse_frequencies(D);
      const at::Tensor angles = where.to(at::kDouble).unsqueeze(1) * frequencies.to(at::kDouble);
      const at::Tensor expected = complex_rotation(x, angles, 1.5);
      check_close("float64", rope(x, where, frequencies, 1.5), expected, kExactMath);
      check_close("float32", rope(x.to(at::kFloat), where, frequencies, 1.5), expected, kFloat32Op);
    }
  }
  const at::Tensor x = random_tensor({3, 2, 8}, 1);
  const at::Tensor origin = at::zeros({3}, at::TensorOptions(at::kLong).device(test_device()));
  check_bitwise("position 0", rope(x, origin, inverse_frequencies(8)), x);
}

TEST_CASE("rope angles are float32 at large positions, whatever the dtype", "[rope]") {
  const int64_t D = 64;
  const at::Tensor frequencies = inverse_frequencies(D);
  for (const int64_t first : {int64_t{131'000}, int64_t{1'000'003}}) {
    const at::Tensor where = token_positions(first, 65);
    const at::Tensor angles = (where.to(at::kFloat).unsqueeze(1) * frequencies).to(at::kDouble);
    const at::Tensor x = random_tensor({65, 2, D}, 2);
    check_close("float32", rope(x, where, frequencies), complex_rotation(x, angles, 1), kFloat32Op);
    for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
      const at::Tensor narrow = x.to(type);
      check_bitwise("low precision", rope(narrow, where, frequencies),
                    rope(narrow.to(at::kFloat), where, frequencies).to(type));
    }
  }
}

TEST_CASE("rope makes products depend on distance alone", "[rope]") {
  const at::Tensor frequencies = inverse_frequencies(32);
  const at::Tensor q = random_tensor({65, 1, 32}, 3, at::kDouble);
  const at::Tensor k = random_tensor({65, 1, 32}, 4, at::kDouble);
  const auto product = [&](int64_t shift) {
    return (rope(q, token_positions(shift + 5, 65), frequencies) *
            rope(k, token_positions(shift, 65), frequencies))
        .sum(-1);
  };
  check_close("shifted", product(4000), product(0), 1e3 * kExactMath);
}

TEST_CASE("rope gradient", "[rope]") {
  for (const int64_t N : {1, 63, 65}) {
    check_gradients(
        [N](const std::vector<at::Tensor>& in) {
          return std::vector<at::Tensor>{
              rope(in[0], token_positions(3, N), inverse_frequencies(6), 1.25)};
        },
        {{"x", random_tensor({N, 2, 6}, 5, at::kDouble)}});
  }
}

TEST_CASE("rope takes non-contiguous input", "[rope]") {
  const at::Tensor x = random_tensor({3, 63, 8}, 6).transpose(0, 1).requires_grad_(true);
  const at::Tensor copy = x.detach().contiguous().requires_grad_(true);
  REQUIRE(!x.is_contiguous());
  const at::Tensor where = token_positions(0, 126).slice(0, 0, 126, 2);
  const at::Tensor found = rope(x, where, inverse_frequencies(8));
  const at::Tensor expected = rope(copy, where.contiguous(), inverse_frequencies(8));
  check_bitwise("out", found, expected);
  const at::Tensor dout = random_tensor({63, 3, 8}, 7);
  check_close("dx", torch::autograd::grad({found}, {x}, {dout})[0],
              torch::autograd::grad({expected}, {copy}, {dout})[0], kFloat32Op);
}

TEST_CASE("rope of heads of whole vectors", "[rope]") {
  for (const auto& [N, H, D] :
       {std::array<int64_t, 3>{1, 1, 16}, {63, 3, 32}, {65, 5, 64}, {9, 8, 128}, {3, 2, 1024}}) {
    INFO("N " << N << ", H " << H << ", D " << D);
    const int64_t tokens = N, head_dim = D;
    const OpFunction op = [=](const std::vector<at::Tensor>& in) {
      return std::vector<at::Tensor>{
          rope(in[0], token_positions(11, tokens), inverse_frequencies(head_dim), 1.25)};
    };
    const at::Tensor angles = token_positions(11, N).to(at::kDouble).unsqueeze(1) *
                              inverse_frequencies(D).to(at::kDouble);
    const OpFunction definition = [=](const std::vector<at::Tensor>& in) {
      return std::vector<at::Tensor>{complex_rotation(in[0], angles, 1.25).to(in[0].scalar_type())};
    };
    const at::Tensor x = random_tensor({N, H, D}, 10, at::kDouble);
    check_runs(run_op(op, {x}, at::kFloat), run_op(definition, {x}, at::kDouble), {"out"}, {"x"},
               kFloat32Op);
    check_low_precision_runs(op, definition, {x}, {"out"}, {"x"});
    for (const at::ScalarType type : {at::kBFloat16, at::kHalf, at::kFloat}) {
      const at::Tensor leaf = x.to(type).requires_grad_(true);
      CHECK(is_of_own_function(op({leaf})[0]) == test_device().is_cuda());
    }
  }
}

TEST_CASE("rope of heads that begin anywhere", "[rope]") {
  // q inside [N, q | k | v], heads apart from each other, and a view that begins at odd bytes.
  const at::Tensor wide = random_tensor({9, 3 * 64 + 40}, 11, at::kBFloat16);
  const at::Tensor where = token_positions(0, 9), frequencies = inverse_frequencies(32);
  for (const int64_t offset : {0, 1, 16}) {
    const at::Tensor q = wide.narrow(1, offset, 3 * 64).unflatten(1, {3, 64}).narrow(2, 0, 32);
    check_bitwise("view", rope(q, where, frequencies), rope(q.contiguous(), where, frequencies));
  }
  const at::Tensor heads_first = random_tensor({3, 9, 32}, 12, at::kBFloat16).transpose(0, 1);
  check_bitwise("transposed", rope(heads_first, where, frequencies),
                rope(heads_first.contiguous(), where, frequencies));
}

TEST_CASE("rope of more numbers than 32 bits count", "[rope]") {
  check_large_offsets(
      [](const std::vector<at::Tensor>& in) {
        const at::Tensor x = in[0].unflatten(1, {32, 128});
        const at::Tensor where = token_positions(0, 1).expand({x.size(0)});
        return std::vector<at::Tensor>{rope(x, where, inverse_frequencies(128), 1.5)};
      },
      4096);
}

TEST_CASE("rope kernel refuses double backward", "[rope]") {
  check_double_backward(
      [](const std::vector<at::Tensor>& in) {
        return std::vector<at::Tensor>{rope(in[0], token_positions(3, 5), inverse_frequencies(16))};
      },
      random_tensor({5, 2, 16}, 13), "rope");
}

TEST_CASE("rope of a frozen input records nothing", "[rope]") {
  CHECK(!rope(random_tensor({3, 1, 4}, 8), token_positions(0, 3), inverse_frequencies(4))
             .requires_grad());
}

TEST_CASE("rope refuses wrong input", "[rope]") {
  const at::Tensor x = random_tensor({3, 2, 4}, 9), where = token_positions(0, 3);
  const at::Tensor frequencies = inverse_frequencies(4);
  const std::string device = x.device().str();
  check_refused([&] { rope(x.to(at::kInt), where, frequencies); },
                "[rope] x: expected a floating-point dtype, found Int");
  check_refused([&] { rope(x[0], where, frequencies); },
                "[rope] x: expected shape [any, any, any], found [2, 4]");
  check_refused([&] { rope(x.narrow(2, 0, 3), where, frequencies); },
                "[rope] x: expected an even last dimension, found 3");
  check_refused([&] { rope(x, where.to(at::kInt), frequencies); },
                "[rope] positions: expected dtype Long, found Int");
  check_refused([&] { rope(x, token_positions(0, 4), frequencies); },
                "[rope] positions: expected shape [3], found [4]");
  check_refused([&] { rope(x, where.to(at::kMeta), frequencies); },
                "[rope] positions: expected device " + device + ", found meta");
  check_refused([&] { rope(x, where, frequencies.to(at::kBFloat16)); },
                "[rope] inverse_frequencies: expected dtype Float, found BFloat16");
  check_refused([&] { rope(x, where, inverse_frequencies(6)); },
                "[rope] inverse_frequencies: expected shape [2], found [3]");
  check_refused([&] { rope(x, where, frequencies.to(at::kMeta)); },
                "[rope] inverse_frequencies: expected device " + device + ", found meta");
}
