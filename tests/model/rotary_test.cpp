#include "model/rotary.h"

#include <ATen/ATen.h>

#include <cmath>

#include "support/catch.h"
#include "support/compare.h"
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
                        .original_max_position_embeddings = 8192,
                        .low_freq_factor = 1,
                        .high_freq_factor = 4};
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

TEST_CASE("Dynamic frequencies: the base grows once sequences exceed the trained length") {
  const RopeConfig rope{
      .type = "dynamic", .theta = 1e4, .factor = 4, .original_max_position_embeddings = 64};
  CHECK_FALSE(depends_on_length(rope, 64));
  CHECK(depends_on_length(rope, 65));
  CHECK_FALSE(depends_on_length({}, 1 << 20));
  check_close("short", frequencies(rope, 16), base_frequencies(1e4, 16), kFloat32Op);
  const double theta = 1e4 * std::pow(4.0 * 100 / 64 - 3, 16.0 / 14);
  check_close("long", make_rotary(rope, 16, test_device(), 100).inverse_frequencies,
              base_frequencies(theta, 16), kFloat32Op);
}

TEST_CASE("yarn frequencies: fast turns stay, slow ones are interpolated, blended between") {
  const RopeConfig rope{
      .type = "yarn", .theta = 1e6, .factor = 4, .original_max_position_embeddings = 32768};
  const at::Tensor base = base_frequencies(1e6, 128);
  const Rotary rotary = make_rotary(rope, 128, test_device());
  const at::Tensor found = rotary.inverse_frequencies.cpu().to(at::kDouble);
  const at::Tensor turns = 32768 * base / (2 * M_PI);
  const at::Tensor stay = turns > 40, slow = turns < 0.8;
  check_close("kept", found.masked_select(stay), base.masked_select(stay), kFloat32Op);
  check_close("interpolated", found.masked_select(slow), base.masked_select(slow) / 4, kFloat32Op);
  CHECK(stay.any().item<bool>());
  CHECK(slow.any().item<bool>());
  const at::Tensor ratio = base / found;
  CHECK((ratio.diff() > -1e-6).all().item<bool>());
  CHECK((ratio > 1.1).logical_and(ratio < 3.9).any().item<bool>());
  CHECK(rotary.scale == Approx(0.1 * std::log(4.0) + 1));
  RopeConfig given = rope;
  given.attention_factor = 1.25;
  CHECK(make_rotary(given, 128, test_device()).scale == 1.25);
}
