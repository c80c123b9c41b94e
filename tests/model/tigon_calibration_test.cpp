#include "model/tigon_calibration.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <vector>

#include "model/balanced_maps.h"
#include "ops/joint_attention_definition.h"
#include "support/catch.h"
#include "support/tiny_model.h"
#include "support/tolerance.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

constexpr int64_t kHeads = 4, kKvHeads = 2, kSize = 16, kWindow = 5;

JointAttentionParameters make_maps(int64_t second_order_numbers) {
  const bool second_order = second_order_numbers > 0;
  const int64_t R = second_order ? second_order_numbers : kSize;
  const int64_t E = joint_feature_channels(R, second_order);
  return {.w_q = random_tensor({kHeads, kSize, R}, 11),
          .b_q = random_tensor({kHeads, R}, 12),
          .w_k = random_tensor({kKvHeads, kSize, R}, 13),
          .b_k = random_tensor({kKvHeads, R}, 14),
          .log_tau = random_tensor({kKvHeads, E}, 15) + std::log(12.0),
          .second_order = second_order};
}

MixerInput make_input(const Model& model, const Batch& batch) {
  const int64_t N = batch.segments.total;
  return {.hidden = random_tensor({N, 48}, 1),
          .q = random_tensor({N, kHeads, kSize}, 2),
          .k = random_tensor({N, kKvHeads, kSize}, 3) + 0.7,
          .v = random_tensor({N, kKvHeads, kSize}, 4),
          .batch = batch,
          .rotary = model.rotary,
          .rings = nullptr};
}

at::Tensor wide(const at::Tensor& x) {
  return x.to(at::kCPU, at::kDouble);
}

/// φ(x w + b) for one token and head.
at::Tensor features(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b,
                    bool second_order) {
  return mapped(x.unsqueeze(0), w.unsqueeze(0), b.unsqueeze(0), second_order)[0];
}

/// x [D] rotated to `position`: the halves (x₁, x₂) turn by position · frequency.
at::Tensor rotated(const at::Tensor& x, int64_t position, const at::Tensor& frequencies) {
  const at::Tensor angle = frequencies * position;
  const at::Tensor first = x.slice(0, 0, kSize / 2), second = x.slice(0, kSize / 2);
  return at::cat(
      {first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()});
}

/// The definition, token by token in float64.
TigonCalibration expected_calibration(const MixerInput& input,
                                      const JointAttentionParameters& maps) {
  const at::Tensor q = wide(input.q), k = wide(input.k);
  const at::Tensor frequencies = wide(input.rotary.inverse_frequencies);
  TigonCalibration result{.w_q = wide(maps.w_q),
                          .w_k = wide(maps.w_k),
                          .b_k = at::zeros({kKvHeads, maps.w_q.size(2)}, at::kDouble),
                          .b_mix = at::zeros({kHeads}, at::kDouble)};
  if (maps.second_order) {  // see its own test
    const BalancedMaps balanced =
        balanced_maps(input.q, input.k, input.rotary, kWindow, maps.w_q.size(2));
    result.w_q = wide(balanced.w_q);
    result.w_k = wide(balanced.w_k);
  }
  for (int64_t g = 0; g < kKvHeads; ++g) {
    result.b_k[g] = -k.select(1, g).mean(0).matmul(result.w_k[g]);
  }
  for (int64_t h = 0; h < kHeads; ++h) {
    const int64_t g = h / (kHeads / kKvHeads);
    const at::Tensor decay = (-1 / wide(maps.log_tau)[g].exp().clamp_min(8)).exp();
    double sum = 0;
    int64_t count = 0, start = 0;
    for (const int64_t T : input.batch.segments.lengths) {
      const double first = std::min(2.0 * kWindow, std::floor((kWindow + T) / 2.0));
      for (int64_t i = 0; i < T; ++i) {
        if (T <= kWindow || static_cast<double>(i) < first) continue;
        const at::Tensor query = q[start + i][h];
        double mass = 0, z = 0;
        for (int64_t j = 0; j <= i - kWindow; ++j) {
          const at::Tensor key = k[start + j][g];
          mass += std::exp(
              (rotated(query, i, frequencies) * rotated(key, j, frequencies)).sum().item<double>() /
              std::sqrt(double(kSize)));
          const at::Tensor aged = features(key, result.w_k[g], result.b_k[g], maps.second_order) *
                                  decay.pow(static_cast<double>(i - kWindow - j));
          z += (features(query, result.w_q[h], wide(maps.b_q)[h], maps.second_order) * aged)
                   .sum()
                   .item<double>();
        }
        sum += std::log(mass) - std::log(std::max(z, 1e-9));
        ++count;
      }
      start += T;
    }
    result.b_mix[h] = sum / static_cast<double>(std::max<int64_t>(count, 1));
  }
  return result;
}

void check_calibration(const std::vector<std::vector<int64_t>>& sequences,
                       int64_t second_order_numbers = 0) {
  const Model model = tiny_model();
  const Batch batch = make_batch(sequences, test_device());
  const MixerInput input = make_input(model, batch);
  const JointAttentionParameters maps = make_maps(second_order_numbers);
  const TigonCalibration found = calibrate_tigon(input, maps, kWindow);
  const TigonCalibration expected = expected_calibration(input, maps);
  check_close("w_q", found.w_q, expected.w_q, kFloat32Op);
  check_close("w_k", found.w_k, expected.w_k, kFloat32Op);
  check_close("b_k", found.b_k, expected.b_k, kFloat32Op);
  if (expected.b_mix.any().item<bool>()) {
    check_close("b_mix", found.b_mix, expected.b_mix, kFloat32Op);
  } else {
    check_bitwise("b_mix", found.b_mix.cpu(), at::zeros({kHeads}));
  }
}

}  // namespace

TEST_CASE("Calibration is its definition, on segments of every kind") {
  check_calibration({random_tokens(40, 97, 1)});
  check_calibration({random_tokens(23, 97, 1), random_tokens(6, 97, 2), random_tokens(1, 97, 3),
                     random_tokens(5, 97, 4), random_tokens(17, 97, 5)});
  check_calibration({random_tokens(9, 97, 1)});    // shorter than two windows
  check_calibration({random_tokens(300, 97, 1)});  // more than a block of queries
}

TEST_CASE("Calibration with features of second order is its definition") {
  check_calibration({random_tokens(30, 97, 1), random_tokens(13, 97, 2)}, 3);
  check_calibration({random_tokens(24, 97, 1)}, kSize);
}

TEST_CASE("Calibration leaves the mixing alone where nothing lies beyond the window") {
  check_calibration({random_tokens(5, 97, 1), random_tokens(2, 97, 2)});
}

TEST_CASE("A mixer's calibrate writes the two biases, of second order the maps, nothing else") {
  const int64_t feature_rank = GENERATE(0, 4);
  const Model model = tiny_model();
  const Batch batch = make_batch({random_tokens(40, 97, 1)}, test_device());
  const MixerInput input = make_input(model, batch);
  const auto mixer =
      make_tigon_mixer({kHeads, kKvHeads, kSize}, 48,
                       {.window_keys = kWindow, .feature_rank = feature_rank}, test_device());
  std::set<std::string> written = {"b_k", "b_mix"};
  if (feature_rank > 0) written.insert({"w_q", "w_k"});
  std::map<std::string, at::Tensor> before;
  for (const auto& [name, tensor] : mixer->parameters()) {
    before[name] = tensor.clone();
    tensor.requires_grad_(true);  // as when it is trained next
  }
  mixer->calibrate(input);
  for (const auto& [name, tensor] : mixer->parameters()) {
    INFO(name);
    CHECK(tensor.requires_grad());
    CHECK(tensor.equal(before.at(name)) == !written.contains(name));
  }
  const auto window = make_window_mixer({kHeads, kKvHeads, kSize}, {});
  window->calibrate(input);  // nothing to set
}
