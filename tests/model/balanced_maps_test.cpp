#include "model/balanced_maps.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "support/catch.h"
#include "support/tiny_model.h"
#include "support/tolerance.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

constexpr int64_t kTokens = 400, kHeads = 4, kKvHeads = 2, kSize = 16, kWindow = 5;

/// Heads whose channels have different spread and are correlated; keys with a common part.
struct Rows {
  at::Tensor q = mixed({kTokens, kHeads, kSize}, 1);
  at::Tensor k = mixed({kTokens, kKvHeads, kSize}, 2) + 0.7;

  static at::Tensor mixed(at::IntArrayRef shape, uint64_t seed) {
    const at::Tensor mixing = random_tensor({kSize, kSize}, seed + 10) / 2;
    return random_tensor(shape, seed).matmul(mixing);
  }
};

at::Tensor wide(const at::Tensor& x) {
  return x.to(at::kCPU, at::kDouble);
}

/// The mean of RoPE(q)·RoPE(k) over distances of one window to eight, for all pairs of rows:
/// q [n, D], k [m, D] → [n, m]. By turning q alone, distance by distance.
at::Tensor mean_scores(const at::Tensor& q, const at::Tensor& k, const Rotary& rotary) {
  const at::Tensor frequencies = wide(rotary.inverse_frequencies);
  at::Tensor sum = at::zeros({q.size(0), k.size(0)}, at::kDouble);
  int64_t count = 0;
  for (int64_t distance = kWindow; distance < 8 * kWindow; ++distance, ++count) {
    const at::Tensor angle = frequencies * distance;
    const at::Tensor first = q.slice(1, 0, kSize / 2), second = q.slice(1, kSize / 2);
    const at::Tensor turned = at::cat(
        {first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()},
        1);
    sum += turned.matmul(k.t());
  }
  return sum / static_cast<double>(count);
}

double mean_square(const at::Tensor& x) {
  return x.square().mean().item<double>();
}

}  // namespace

TEST_CASE("Balanced maps of all numbers keep the teacher's scores, scaled") {
  const Model model = tiny_model();
  const double size = GENERATE(0.3, 5.0);  // scores below a mean square of 1, and above
  Rows rows;
  rows.q = rows.q * size;
  const BalancedMaps maps = balanced_maps(rows.q, rows.k, model.rotary, kWindow, kSize);
  REQUIRE(maps.w_q.sizes() == at::IntArrayRef({kHeads, kSize, kSize}));
  REQUIRE(maps.w_k.sizes() == at::IntArrayRef({kKvHeads, kSize, kSize}));
  for (int64_t g = 0; g < kKvHeads; ++g) {
    const at::Tensor k = wide(rows.k).select(1, g) - wide(rows.k).select(1, g).mean(0);
    // What both heads of the group ask for is in the scale.
    std::vector<at::Tensor> scores, mapped;
    for (const int64_t h : {2 * g, 2 * g + 1}) {
      const at::Tensor q = wide(rows.q).select(1, h);
      scores.push_back(mean_scores(q, k, model.rotary));
      mapped.push_back(q.matmul(wide(maps.w_q)[h]).matmul(k.matmul(wide(maps.w_k)[g]).t()));
    }
    const at::Tensor all = at::cat(scores);
    const double scaled = mean_square(all) / kSize;
    const double scale = 1 / std::sqrt(kSize * std::max(1.0, scaled));
    check_close("scores", at::cat(mapped), scale * all, kFloat32Op);
    CHECK(mean_square(at::cat(mapped)) <= 1 + 1e-4);
    CHECK((scaled > 1) == (size == 5.0));
  }
}

TEST_CASE("Balanced maps of fewer numbers leave out what matters least, alike on both sides") {
  const Model model = tiny_model();
  const Rows rows;
  double last_error = 1e9;
  for (const int64_t numbers : {1, 3, 8, 15}) {
    const BalancedMaps maps = balanced_maps(rows.q, rows.k, model.rotary, kWindow, numbers);
    REQUIRE(maps.w_q.sizes() == at::IntArrayRef({kHeads, kSize, numbers}));
    const int64_t g = 1;
    const at::Tensor q = wide(rows.q).slice(1, 2 * g, 2 * g + 2).transpose(0, 1).flatten(0, 1);
    const at::Tensor k = wide(rows.k).select(1, g) - wide(rows.k).select(1, g).mean(0);
    const at::Tensor x = q.matmul(wide(maps.w_q)[2 * g]), y = k.matmul(wide(maps.w_k)[g]);
    check_bitwise("maps of one group's heads", maps.w_q[2 * g], maps.w_q[2 * g + 1]);
    // Coordinates are uncorrelated, as large on one side as on the other, largest first.
    const at::Tensor spread_q = x.t().matmul(x) / x.size(0);
    const at::Tensor spread_k = y.t().matmul(y) / y.size(0);
    check_close("spread", spread_q, spread_k, 1e-4);
    check_close("spread", spread_q, spread_q.diag().diag(), 1e-4);
    CHECK((spread_q.diag().slice(0, 1) <= spread_q.diag().slice(0, 0, numbers - 1) + 1e-9)
              .all()
              .item<bool>());
    // No rank does better: against the singular values of all scores.
    const at::Tensor scores = mean_scores(q, k, model.rotary);
    const at::Tensor values = std::get<1>(at::linalg_svd(scores, false));
    const double scale = (x.matmul(y.t()) * scores).sum().item<double>() /
                         x.matmul(y.t()).square().sum().item<double>();
    const double error = (scale * x.matmul(y.t()) - scores).square().sum().item<double>();
    const double least = values.slice(0, numbers).square().sum().item<double>();
    CHECK(error == Approx(least).epsilon(1e-3));
    CHECK(error < last_error);
    last_error = error;
  }
}

TEST_CASE("Balanced maps of one token are finite") {
  const Model model = tiny_model();
  const Rows rows;
  const BalancedMaps maps =
      balanced_maps(rows.q.narrow(0, 0, 1), rows.k.narrow(0, 0, 1), model.rotary, kWindow, 4);
  CHECK(at::isfinite(maps.w_q).all().item<bool>());
  CHECK(at::isfinite(maps.w_k).all().item<bool>());
}
