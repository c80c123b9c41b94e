#include "model/rotary.h"

#include <ATen/ATen.h>

#include <cmath>

#include "support/catch.h"
#include "support/compare.h"
#include "support/refusal.h"
#include "support/tolerance.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

at::Tensor base_frequencies(double theta, int64_t head_dim) {
  const at::Tensor exponents = at::arange(0, head_dim, 2, at::kDouble) / double(head_dim);
  return at::pow(theta, -exponents);
}

at::Tensor frequencies(const RopeConfig& rope, int64_t head_dim) {
  return make_rotary(rope, head_dim, test_device()).inverse_frequencies;
}

}  // namespace

TEST_CASE("Default and linear frequencies") {
  check_close("default", frequencies({.theta = 5e5}, 64), base_frequencies(5e5, 64), kFloat32Op);
  check_close("linear", frequencies({.type = "linear", .theta = 1e4, .factor = 4}, 16),
              base_frequencies(1e4, 16) / 4, kFloat32Op);
  CHECK(frequencies({}, 64).scalar_type() == at::kFloat);
}

TEST_CASE("llama3 frequencies: short wavelengths stay, long ones are stretched, smooth between") {
  const RopeConfig rope{.type = "llama3",
                        .theta = 5e5,
                        .factor = 8,
                        .low_freq_factor = 1,
                        .high_freq_factor = 4,
                        .original_max_position_embeddings = 8192};
  const at::Tensor base = base_frequencies(5e5, 128);
  const at::Tensor wavelength = 2 * M_PI / base;
  const at::Tensor smooth = (8192 / wavelength - 1) / (4 - 1);
  const at::Tensor medium = (1 - smooth) * base / 8 + smooth * base;
  const at::Tensor expected = at::where(wavelength > 8192 / 1.0, base / 8,
                                        at::where(wavelength < 8192 / 4.0, base, medium));
  check_close("llama3", frequencies(rope, 128), expected, kFloat32Op);
  // All three ranges are there.
  CHECK((wavelength > 8192).any().item<bool>());
  CHECK((wavelength < 2048).any().item<bool>());
  CHECK((wavelength > 2048).logical_and(wavelength < 8192).any().item<bool>());
}

TEST_CASE("An unknown rope type is refused") {
  check_refused([] { make_rotary({.type = "yarn"}, 16, at::kCPU); },
                "expected default, linear or llama3, found \"yarn\"");
}
