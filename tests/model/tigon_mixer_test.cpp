#include <ATen/ATen.h>

#include <cmath>
#include <map>

#include "model/mixer.h"
#include "ops/joint_attention/joint_attention.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/tiny_model.h"
#include "support/tolerance.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

const HeadShape kShape{.num_heads = 4, .num_kv_heads = 2, .head_dim = 16};

std::map<std::string, at::Tensor> parameters_of(const Mixer& mixer) {
  const auto list = mixer.parameters();
  return {list.begin(), list.end()};
}

}  // namespace

TEST_CASE("A tigon mixer says what it is, and what it is without its recurrence") {
  const auto mixer = make_tigon_mixer(kShape, 48, {.window_keys = 24}, test_device());
  CHECK(mixer->kind() == "tigon");
  CHECK(mixer->describe() == "window of 24 keys + linear recurrence under one denominator");
  REQUIRE(mixer->without_recurrence() != nullptr);
  CHECK(mixer->without_recurrence()->describe() == "window of 24 keys");
}

TEST_CASE("A tigon mixer starts from the identity, equal importance and slow decay") {
  const auto mixer = make_tigon_mixer(kShape, 48, {}, test_device());
  auto found = parameters_of(*mixer);
  const auto options = at::device(test_device()).dtype(at::kFloat);
  const at::Tensor identity = at::eye(16, options);
  check_bitwise("w_q", found.at("w_q"), identity.expand({4, 16, 16}));
  check_bitwise("w_k", found.at("w_k"), identity.expand({2, 16, 16}));
  check_bitwise("b_q", found.at("b_q"), at::zeros({4, 16}, options));
  check_bitwise("b_k", found.at("b_k"), at::zeros({2, 16}, options));
  check_close("log_tau", found.at("log_tau"), at::full({2, 32}, std::log(512.0), options), 1e-7);
  check_bitwise("w_importance", found.at("w_importance"), at::zeros({48, 2}, options));
  check_bitwise("w_mix", found.at("w_mix"), at::zeros({48, 4}, options));
  check_bitwise("b_mix", found.at("b_mix"), at::zeros({4}, options));
  CHECK(found.size() == 8);
  // Nothing is shared between mixers or heads.
  const auto other = make_tigon_mixer(kShape, 48, {}, test_device());
  found.at("w_q")[0].zero_();
  check_bitwise("w_q of another mixer", parameters_of(*other).at("w_q"),
                identity.expand({4, 16, 16}));
  check_bitwise("w_q of another head", found.at("w_q")[1], identity);
}

TEST_CASE("A tigon mixer of second order has maps of a few numbers") {
  const auto mixer =
      make_tigon_mixer(kShape, 48, {.window_keys = 24, .feature_rank = 5}, test_device());
  CHECK(mixer->describe() ==
        "window of 24 keys + linear recurrence (features of second order, rank 5) under one "
        "denominator");
  auto found = parameters_of(*mixer);
  const auto options = at::device(test_device()).dtype(at::kFloat);
  check_bitwise("w_q", found.at("w_q"), (at::eye(16, 5, options) / 2).expand({4, 16, 5}));
  check_bitwise("w_k", found.at("w_k"), (at::eye(16, 5, options) / 2).expand({2, 16, 5}));
  CHECK(found.at("b_q").sizes() == at::IntArrayRef({4, 5}));
  CHECK(found.at("b_k").sizes() == at::IntArrayRef({2, 5}));
  CHECK(found.at("log_tau").sizes() == at::IntArrayRef({2, 21}));
  const auto state = mixer->make_state(3, at::kFloat, test_device());
  // Keys and values of the window, log-importances, matrices; float32.
  CHECK(state->bytes() == 3 * 2 * (24 * (2 * 16 + 1) + 21 * 17) * 4);
}

TEST_CASE("A tigon mixer is joint_attention with logits read from the attention input") {
  const at::NoGradGuard no_grad;
  const Model model = tiny_model();
  const Batch batch =
      make_batch({random_tokens(40, 97, 1), random_tokens(9, 97, 2)}, test_device());
  const int64_t feature_rank = GENERATE(0, 4);
  const auto mixer = trained_tigon_stack(model.config, 5, feature_rank).front();
  const int64_t N = batch.segments.total;
  const MixerInput input{.hidden = random_tensor({N, 48}, 1),
                         .q = random_tensor({N, 4, 16}, 2),
                         .k = random_tensor({N, 2, 16}, 3),
                         .v = random_tensor({N, 2, 16}, 4),
                         .batch = batch,
                         .rotary = model.rotary,
                         .rings = nullptr};
  const auto p = parameters_of(*mixer);
  const double scale = 16 / std::sqrt(48.0);
  const auto expected = joint_attention(
      {input.q, input.k, input.v, batch.positions, model.rotary.inverse_frequencies,
       scale * input.hidden.matmul(p.at("w_importance")),
       p.at("b_mix") + scale * input.hidden.matmul(p.at("w_mix"))},
      {p.at("w_q"), p.at("b_q"), p.at("w_k"), p.at("b_k"), p.at("log_tau"), feature_rank > 0},
      batch.segments, batch.segments, {.window_keys = 5});
  const at::Tensor found = mixer->forward(input, nullptr);
  check_close("out", found, expected.out, kFloat32Op);
  // Every parameter matters.
  for (const auto& [name, parameter] : p) {
    INFO(name);
    const at::Tensor before = parameter.clone();
    parameter.add_(random_tensor(parameter.sizes(), 7));
    CHECK(relative_rms(mixer->forward(input, nullptr), found) > 1e-3);
    parameter.copy_(before);
  }
}

TEST_CASE("A tigon mixer whose recurrence has no weight is its window") {
  const at::NoGradGuard no_grad;
  const Model model = tiny_model();
  const Batch batch = make_batch({random_tokens(60, 97, 1)}, test_device());
  const MixerStack stack = trained_tigon_stack(model.config, 16);
  MixerStack windows;
  const at::Tensor with = forward_hidden(model, stack, batch);
  for (const auto& mixer : stack) {
    windows.push_back(mixer->without_recurrence());
    parameters_of(*mixer).at("b_mix").fill_(-1000);
  }
  const at::Tensor window = forward_hidden(model, windows, batch);
  check_close("hidden", forward_hidden(model, stack, batch), window, kFloat32Op);
  CHECK(relative_rms(with, window) > 1e-2);
}

TEST_CASE("Impossible options of a tigon mixer are refused") {
  check_refused([] { make_tigon_mixer(kShape, 48, {.window_keys = 0}, test_device()); },
                "tigon mixer: expected window_keys ≥ 1, found 0");
  check_refused([] { make_tigon_mixer(kShape, 48, {.decay_time = 0}, test_device()); },
                "tigon mixer: expected decay_time > 0, found 0");
  for (const int64_t rank : {-1, 17}) {
    check_refused([&] { make_tigon_mixer(kShape, 48, {.feature_rank = rank}, test_device()); },
                  "tigon mixer: expected feature_rank from 0 to the head's 16 numbers, found " +
                      std::to_string(rank));
  }
}
