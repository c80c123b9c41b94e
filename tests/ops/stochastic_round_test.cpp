#include "ops/stochastic_round/stochastic_round.h"

#include <ATen/ATen.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "support/catch.h"
#include "support/compare.h"
#include "support/refusal.h"

namespace tigon::testing {
namespace {

at::Tensor at_positions(const std::vector<int64_t>& positions) {
  return at::tensor(positions, at::kLong).to(test_device());
}

at::Tensor numbers(const std::vector<float>& values) {
  return at::tensor(values).view({1, -1}).to(test_device());
}

/// The definition in the arithmetic of 32 bits.
uint32_t mixed(uint32_t x) {
  for (int round = 0; round < 2; ++round) x = (x ^ x >> 16) * 0x045d9f3bu;
  return x ^ x >> 16;
}

uint16_t rounded_by_definition(float x, int64_t position, uint32_t place) {
  uint32_t word = 0;
  std::memcpy(&word, &x, sizeof word);
  const uint32_t key = mixed(static_cast<uint32_t>(position) + 0x9e3779b9u);
  const uint32_t pair = mixed(key + place / 2);
  return static_cast<uint16_t>((word + (place % 2 == 0 ? pair & 0xffffu : pair >> 16)) >> 16);
}

/// How far up of the way to the next bfloat16 each number is, and whether it went there.
at::Tensor went_up(float share, at::IntArrayRef shape, const at::Tensor& positions) {
  const float below = 1, above = 1 + 1.0f / 128;  // neighbours in bfloat16
  const at::Tensor x =
      at::full(shape, below + share * (above - below), at::device(test_device()).dtype(at::kFloat));
  return stochastic_round(x, positions).to(at::kDouble).gt(below).to(at::kDouble).cpu();
}

/// A share of `count` independent draws lies this near to its mean, but for a millionth.
double bound(double share, double count) {
  return 5 * std::sqrt(share * (1 - share) / count);
}

TEST_CASE("stochastic_round is its definition, bit by bit", "[stochastic_round]") {
  const std::vector<int64_t> positions = {0, 1, 511, 1'000'000, (int64_t{1} << 33) + 5};
  for (const int64_t places : {1, 2, 63, 65, 1024}) {
    const auto S = static_cast<int64_t>(positions.size());
    const at::Tensor x = random_tensor({S, places}, 7) * 3;
    const at::Tensor words = stochastic_round(x, at_positions(positions)).cpu().view(at::kShort);
    const at::Tensor host = x.cpu();
    for (int64_t s = 0; s < S; ++s) {
      for (int64_t i = 0; i < places; ++i) {
        const auto found = static_cast<uint16_t>(words[s][i].item<int16_t>());
        REQUIRE(found == rounded_by_definition(host[s][i].item<float>(), positions[s],
                                               static_cast<uint32_t>(i)));
      }
    }
  }
}

TEST_CASE("stochastic_round keeps what bfloat16 holds", "[stochastic_round]") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const at::Tensor held =
      at::cat({random_tensor({1, 4096}, 1).to(at::kBFloat16).to(at::kFloat),
               numbers({0.0f, -0.0f, 1.0f, -2.5f, 0x1p-130f, -0x1.fep127f, kInfinity, -kInfinity})},
              1);
  for (const int64_t position : {0, 3, 700}) {
    check_bitwise("held", stochastic_round(held, at_positions({position})), held.to(at::kBFloat16));
  }
}

TEST_CASE("stochastic_round passes NaN on and keeps finite numbers finite", "[stochastic_round]") {
  const at::Tensor nan = at::full({1, 64}, std::numeric_limits<float>::quiet_NaN(),
                                  at::device(test_device()).dtype(at::kFloat));
  const at::Tensor most = at::full_like(nan, std::numeric_limits<float>::max());
  for (const int64_t position : {0, 3, 700}) {
    CHECK(stochastic_round(nan, at_positions({position})).isnan().all().item<bool>());
    const at::Tensor kept = stochastic_round(most, at_positions({position}));
    CHECK(kept.isfinite().all().item<bool>());
    CHECK(kept.gt(3e38).all().item<bool>());
  }
}

TEST_CASE("stochastic_round gives one of the two neighbours", "[stochastic_round]") {
  // Magnitudes over the whole range, subnormal numbers included.
  const at::Tensor x = (random_tensor({64, 512}, 1) * (30 * random_tensor({64, 512}, 2)).exp());
  const at::Tensor small = 1e-40 * random_tensor({64, 512}, 3);
  for (const at::Tensor& wide : {x, small}) {
    const at::Tensor found =
        stochastic_round(wide, at::arange(64, at::device(test_device()).dtype(at::kLong)));
    // Neighbouring bfloat16 of one sign are neighbours as integers.
    const at::Tensor below = wide.cpu().view(at::kInt).bitwise_right_shift(16).bitwise_and(0xffff);
    const at::Tensor word = found.cpu().view(at::kShort).to(at::kInt).bitwise_and(0xffff);
    const at::Tensor step = word - below;
    CHECK(step.ge(0).all().item<bool>());
    CHECK(step.le(1).all().item<bool>());
  }
}

TEST_CASE("stochastic_round is unbiased", "[stochastic_round]") {
  constexpr int64_t kPositions = 512, kPlaces = 2000;
  const at::Tensor positions =
      at::arange(kPositions, at::device(test_device()).dtype(at::kLong)) + 1000;
  for (const float share : {0.01f, 0.25f, 0.5f, 0.93f}) {
    INFO("share " << share);
    const at::Tensor up = went_up(share, {kPositions, kPlaces}, positions);
    const double mean = up.mean().item<double>();
    CHECK(std::abs(mean - share) < bound(share, kPositions * kPlaces) + 1e-5);
    // The same over the tokens of each place and over the places of each token.
    for (const int64_t dim : {0, 1}) {
      const double draws = dim == 0 ? kPositions : kPlaces;
      const double worst = (up.mean(dim) - share).abs().max().item<double>();
      CHECK(worst < bound(share, draws) * 1.2);
      // Their spread is that of independent draws: neither less nor more.
      const double variance = (up.mean(dim) - share).square().mean().item<double>();
      CHECK(variance * draws / (share * (1 - share)) == Approx(1).margin(0.2));
    }
    // Neighbours, the two of a pair included, and successive tokens do not know of each other.
    const at::Tensor rest = up - share;
    const auto correlation = [&](int64_t dim, int64_t distance) {
      const int64_t count = up.size(dim) - distance;
      const at::Tensor products = rest.narrow(dim, 0, count) * rest.narrow(dim, distance, count);
      return std::abs(products.mean().item<double>()) / (share * (1 - share));
    };
    for (const int64_t distance : {1, 2, 65}) {
      INFO("distance " << distance);
      CHECK(correlation(0, distance) < 5 / std::sqrt(kPositions * kPlaces));
      CHECK(correlation(1, distance) < 5 / std::sqrt(kPositions * kPlaces));
    }
  }
}

TEST_CASE("A sum kept in bfloat16 grows by increments it cannot hold", "[stochastic_round]") {
  constexpr int64_t kPlaces = 4096;
  constexpr double kIncrement = 1.0 / 2048, kDecay = 511.0 / 512;
  at::Tensor kept = at::ones({1, kPlaces}, at::device(test_device()).dtype(at::kBFloat16));
  at::Tensor nearest = kept;
  double expected = 1;
  for (int64_t t = 0; t < 1500; ++t) {
    const auto next = [&](const at::Tensor& x) { return x.to(at::kFloat) * kDecay + kIncrement; };
    kept = stochastic_round(next(kept), at_positions({t}));
    nearest = next(nearest).to(at::kBFloat16);
    expected = expected * kDecay + kIncrement;
  }
  CHECK(kept.to(at::kDouble).mean().item<double>() == Approx(expected).epsilon(2e-3));
  CHECK(nearest.to(at::kDouble).mean().item<double>() > 3 * expected);
}

TEST_CASE("stochastic_round depends on position and place alone", "[stochastic_round]") {
  const at::Tensor x = random_tensor({1, 2, 6, 7}, 5);
  const at::Tensor alone = stochastic_round(x, at_positions({40}));
  const at::Tensor among =
      stochastic_round(at::cat({random_tensor({3, 2, 6, 7}, 6), x}), at_positions({40, 9, 8, 40}));
  check_bitwise("another row", among.narrow(0, 3, 1), alone);
  check_bitwise("another shape", stochastic_round(x.view({1, 84}), at_positions({40})).view_as(x),
                alone);
  check_bitwise("a view", stochastic_round(x.transpose(1, 2), at_positions({40})),
                stochastic_round(x.transpose(1, 2).contiguous(), at_positions({40})));
  CHECK_FALSE(stochastic_round(x, at_positions({41})).equal(alone));
  CHECK(stochastic_round(x.narrow(0, 0, 0), at_positions({})).sizes() ==
        at::IntArrayRef({0, 2, 6, 7}));
}

TEST_CASE("stochastic_round refuses arguments that do not fit", "[stochastic_round]") {
  const at::Tensor x = random_tensor({2, 8}, 1), positions = at_positions({1, 2});
  check_refused([&] { stochastic_round(x.to(at::kDouble), positions); },
                "[stochastic_round] x: expected dtype Float");
  check_refused([&] { stochastic_round(x[0][0], positions); },
                "x: expected at least 1 dimension, found none");
  check_refused([&] { stochastic_round(x, at_positions({1})); },
                "positions: expected shape [2], found [1]");
  check_refused([&] { stochastic_round(x, positions.to(at::kInt)); },
                "positions: expected dtype Long");
  check_refused([&] { stochastic_round(x.clone().requires_grad_(true), positions); },
                "x: expected a tensor that requires no gradient");
}

}  // namespace
}  // namespace tigon::testing
