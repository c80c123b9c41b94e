// Values and gradients of joint_attention.
#include "ops/joint_attention/joint_attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>
#include <tuple>

#include "io/safetensors.h"
#include "ops/joint_attention/joint_attention_parts.h"
#include "ops/joint_attention_case.h"
#include "ops/joint_attention_definition.h"
#include "support/gradcheck.h"
#include "support/shared_material.h"
#include "support/tolerance.h"

namespace tigon::testing::joint {
namespace {

OpFunction definition(const Case& c) {
  return [c](const std::vector<at::Tensor>& x) -> std::vector<at::Tensor> {
    const auto [out, state] = joint_attention_definition(c.inputs(x), c.parameters(x), c.queries(),
                                                         c.keys(), c.options, x[kState]);
    return {out, state};
  };
}

void check_case(const Case& c) {
  INFO("lengths " << at::IntArrayRef(c.lengths) << ", prefixes " << at::IntArrayRef(c.prefixes)
                  << ", window_keys " << c.options.window_keys << ", second order of "
                  << c.second_order_numbers << " numbers");
  const auto x = random_inputs(c);
  check_runs(run_op(op(c), x, at::kDouble), run_op(definition(c), x, at::kDouble), kOutputs,
             kInputs, kExactMath);
}

TEST_CASE("joint_attention equals golden values, every gradient by name", "[joint_attention]") {
  TIGON_SHARED_OR_SKIP(path, "golden/ops/tigon.safetensors");
  const SafetensorsFile file(path);
  REQUIRE(file.metadata().at("min_tau") == "8");
  const std::vector<std::string> names = {"q",  "k",  "v",          "wq",  "bq",
                                          "wk", "bk", "importance", "mix", "log_tau"};
  const at::Tensor rows = golden(file, "q");  // [B, T, H, D]
  const Segments segments =
      Segments::from_lengths(std::vector<int64_t>(rows.size(0), rows.size(1)), test_device());
  const auto tokens = [&](const std::string& name) {  // of a row: [B, T, …] → [N, …]
    const at::Tensor x = golden(file, name);
    return x.size(0) == rows.size(0) && x.size(1) == rows.size(1) ? x.flatten(0, 1) : x;
  };
  std::vector<at::Tensor> x;
  for (const std::string& name : names) x.push_back(tokens(name).requires_grad_(true));
  const double theta = std::stod(file.metadata().at("rope_theta"));
  const auto [out, state] =
      joint_attention({x[kQ], x[kK], x[kV], positions(segments),
                       inverse_frequencies(rows.size(3), theta), x[kLogImportance], x[kLogMix]},
                      {x[kWQ], x[kBQ], x[kWK], x[kBK], x[kLogTau]}, segments, segments,
                      {.window_keys = std::stoll(file.metadata().at("window"))});
  check_close("o", out, tokens("o"), kFloat32Op);
  check_close("state", state, golden(file, "state"), kFloat32Op);
  const auto gradients = torch::autograd::grad({out}, x, {tokens("do")});
  for (size_t i = 0; i < names.size(); ++i) {
    check_close("d" + names[i], gradients[i], tokens("d" + names[i]), kFloat32Op);
  }
}

TEST_CASE("joint_attention equals its definition around the window", "[joint_attention]") {
  for (const int64_t window_keys : {1, 3, 8}) {
    const int64_t w = window_keys;
    const JointAttentionOptions options{.window_keys = w};
    check_case({{0, 1, w - 1, w, w + 1, 2 * w + 1}, {}, options});
    check_case({{w + 1, w + 1}, {}, options});
    check_case({{1, 1, 1}, {w, w + 2, w - 1}, options});  // decoding; older and younger prefixes
    check_case({{5, 0, 9, 2}, {w, w, w + 3, 0}, options});
  }
  check_case({{12, 1}, {}, {.window_keys = 4, .rope_scale = 1.25}});
  check_case({{40, 70}, {}, {.window_keys = 5}});  // more than one block
}

TEST_CASE("joint_attention with features of second order equals its definition",
          "[joint_attention]") {
  for (const int64_t numbers : {1, 3, 6}) {
    check_case({{0, 1, 2, 3, 4, 7}, {}, {.window_keys = 3}, numbers});
    check_case({{5, 0, 9, 2}, {3, 3, 6, 0}, {.window_keys = 3}, numbers});
  }
  check_case({{40, 70}, {}, {.window_keys = 5, .rope_scale = 1.25}, 3});  // more than one block
}

// Channels that decay alike keep Z = Σ a^age (1 + x·y + (x·y)²/2) above half of what came in.
TEST_CASE("joint_attention of second order has a mass above zero", "[joint_attention]") {
  const at::Tensor x = random_tensor({50, 2, 6}, 1, at::kDouble) * 3;
  const at::Tensor w = random_tensor({2, 6, 4}, 2, at::kDouble);
  const at::Tensor b = random_tensor({2, 4}, 3, at::kDouble);
  const at::Tensor features = joint_feature_map(x, w, b, /*second_order=*/true);  // [50, 2, 15]
  REQUIRE(features.sizes() == at::IntArrayRef({50, 2, joint_feature_channels(4, true)}));
  const at::Tensor z = at::einsum("nhd,hde->nhe", {x, w}) + b;
  const at::Tensor products = at::einsum("nhe,mhe->hnm", {z, z});
  const at::Tensor found = at::einsum("nhe,mhe->hnm", {features, features});
  check_close("φ(x)·φ(y)", found, 1 + products + products.square() / 2, kExactMath);
  CHECK(found.min().item<double>() >= 0.5 - 1e-9);
}

TEST_CASE("joint_attention of the first window is the window alone", "[joint_attention]") {
  const Case c{{3, 1, 0, 2}};
  auto x = random_inputs(c);
  x[kState].zero_();
  const at::Tensor changed = x[kLogMix] + 100;
  const auto found = op(c)(x);
  x[kLogMix] = changed;
  check_bitwise("out", op(c)(x)[0], found[0]);
  check_bitwise("state", found[1], x[kState]);
}

TEST_CASE("joint_attention whole, in parts, token by token and packed agree", "[joint_attention]") {
  const int64_t T = 29, window_keys = 4, numbers = GENERATE(0, 3);
  const JointAttentionOptions options{.window_keys = window_keys};
  const auto x = random_inputs({{T}, {}, options, numbers});
  const OpRun whole = run_op(op({{T}, {}, options, numbers}), x, at::kDouble);
  for (const std::vector<int64_t>& parts :
       {std::vector<int64_t>{13, 16}, {2, 3, 4, 20}, std::vector<int64_t>(T, 1)}) {
    INFO("parts " << at::IntArrayRef(parts));
    // Keys from the ring of the last window_keys keys, the state handed on.
    const OpFunction in_parts = [&](const std::vector<at::Tensor>& y) -> std::vector<at::Tensor> {
      std::vector<at::Tensor> outs;
      at::Tensor state = y[kState];
      int64_t from = 0;
      for (const int64_t length : parts) {
        const int64_t prefix = std::min(from, window_keys), to = from + length;
        const Case part{{length}, {prefix}, options, numbers};
        JointAttentionInputs inputs = part.inputs(y);
        for (at::Tensor* queries : {&inputs.q, &inputs.log_mix}) {
          *queries = queries->slice(0, from, to);
        }
        for (at::Tensor* keys : {&inputs.k, &inputs.v, &inputs.log_importance}) {
          *keys = keys->slice(0, from - prefix, to);
        }
        inputs.key_positions = inputs.key_positions + (from - prefix);
        const auto result = joint_attention(inputs, part.parameters(y), part.queries(), part.keys(),
                                            options, state);
        outs.push_back(result.out);
        state = result.state;
        from = to;
      }
      return {at::cat(outs), state};
    };
    check_runs(run_op(in_parts, x, at::kDouble), whole, kOutputs, kInputs, kExactMath);
  }
  // Twice in one batch, another document between them.
  const Case packed{{T, 5, T}, {}, options, numbers};
  auto y = random_inputs(packed);
  for (const size_t i : {kQ, kK, kV, kLogImportance, kLogMix}) {
    y[i] = at::cat({x[i], y[i].slice(0, T, T + 5), x[i]});
  }
  y[kState] = at::cat({x[kState], y[kState].slice(0, 1, 2), x[kState]});
  for (const size_t i : {kWQ, kBQ, kWK, kBK, kLogTau}) y[i] = x[i];
  const auto found = op(packed)(y);
  for (const int64_t from : {int64_t{0}, T + 5}) {
    check_close("packed outputs", found[0].slice(0, from, from + T), whole.outputs[0], kExactMath);
  }
  check_close("packed state", found[1][2], whole.outputs[1][0], kExactMath);
}

TEST_CASE("joint_attention gradients against finite differences", "[joint_attention]") {
  for (const Case& c : {Case{{7, 1, 0, 4, 2}}, Case{{7, 1, 0, 4}, {2, 3, 3, 5}},
                        Case{{1, 1}, {3, 3}}, Case{{7, 1, 4}, {2, 3, 5}, {.window_keys = 3}, 3}}) {
    const auto x = random_inputs(c);
    std::vector<std::pair<std::string, at::Tensor>> named;
    for (size_t i = 0; i < x.size(); ++i) named.emplace_back(kInputs[i], x[i]);
    check_gradients(op(c), named);
  }
}

void check_finite_gradients(const OpRun& run) {
  for (size_t i = 0; i < kInputs.size(); ++i) {
    INFO("d" << kInputs[i]);
    CHECK(at::isfinite(run.gradients[i]).all().item<bool>());
  }
}

TEST_CASE("joint_attention in float32 holds at the extremes", "[joint_attention]") {
  const Case c{{24, 2}};
  const auto mild = random_inputs(c);
  const double inf = std::numeric_limits<double>::infinity();
  const auto sign = [&](size_t i) { return mild[i].sign(); };
  const std::vector<std::tuple<std::string, size_t, at::Tensor>> extremes = {
      {"importance ±50", kLogImportance, 50 * sign(kLogImportance)},
      {"all importances 50", kLogImportance, at::full_like(mild[kLogImportance], 50)},
      {"all importances -50", kLogImportance, at::full_like(mild[kLogImportance], -50)},
      {"mix ±200", kLogMix, 200 * sign(kLogMix)},
      {"mix 200", kLogMix, at::full_like(mild[kLogMix], 200)},
      {"mix -200", kLogMix, at::full_like(mild[kLogMix], -200)},
      {"λ ±1000", kLogTau, 1000 * (mild[kLogTau] - 2).sign()},
      {"λ 88", kLogTau, at::full_like(mild[kLogTau], 88)},
      {"λ -inf", kLogTau, at::full_like(mild[kLogTau], -inf)},
      {"large keys", kK, 20 * mild[kK]}};
  for (const auto& [name, input, extreme] : extremes) {
    INFO(name);
    auto x = mild;
    x[input] = extreme;
    for (at::Tensor& y : x) y = y.to(at::kFloat).to(at::kDouble);
    const OpRun found = run_op(op(c), x, at::kFloat);
    const auto expected = definition(c)(x);  // of the same float32 numbers
    check_close("out", found.outputs[0], expected[0], kFloat32Op);
    check_close("state", found.outputs[1], expected[1], kFloat32Op);
    check_finite_gradients(found);
    if (input == kLogImportance) {
      check_bitwise("dlog_importance", found.gradients[kLogImportance],
                    at::zeros_like(found.gradients[kLogImportance]));
    }
  }
}

// Queries read channel 0 and keys write channel 1, but for a share of about e^−bias.
std::vector<at::Tensor> inputs_that_miss(const Case& c, double bias) {
  auto x = random_inputs(c);
  x[kWQ].zero_();
  x[kWK].zero_();
  x[kBQ].zero_().select(-1, 0).fill_(bias);
  x[kBK].zero_().select(-1, 1).fill_(bias);
  x[kState].zero_();
  x[kLogMix].fill_(200);
  return x;
}

TEST_CASE("joint_attention weighs a small mass up", "[joint_attention]") {
  const Case c{{20}};
  for (const double bias : {10, 30, 60}) {
    INFO("bias " << bias);
    const auto x = inputs_that_miss(c, bias);
    const OpRun found = run_op(op(c), x, at::kFloat);
    check_close("out", found.outputs[0], definition(c)(x)[0], kFloat32Op);
    check_finite_gradients(found);
  }
}

TEST_CASE("joint_attention has no recurrent part where its mass is lost", "[joint_attention]") {
  const Case c{{20}};
  auto x = inputs_that_miss(c, 500);
  const OpRun found = run_op(op(c), x, at::kFloat);
  check_finite_gradients(found);
  x[kLogMix].fill_(-1000);
  check_close("out", found.outputs[0], definition(c)(x)[0], kFloat32Op);
}

TEST_CASE("joint_attention of bf16 inputs runs in float32", "[joint_attention]") {
  const Case c{{40, 3}, {3, 3}};
  auto x = random_inputs(c);
  for (at::Tensor& input : x) input = rounded_to_bf16(input);
  const OpRun found = run_op(op(c), x, at::kBFloat16);
  const OpRun exact = run_op(definition(c), x, at::kDouble);
  CHECK(found.outputs[0].scalar_type() == at::kBFloat16);
  CHECK(found.outputs[1].scalar_type() == at::kFloat);
  check_close("state", found.outputs[1], exact.outputs[1], kFloat32Op);
  const double kUlp = std::numeric_limits<at::BFloat16>::epsilon();
  check_runs(found, exact, kOutputs, kInputs, kLowPrecisionUlps * kUlp);
}

TEST_CASE("joint_attention takes float32 parameters beside bf16 tokens", "[joint_attention]") {
  const Case c{{20, 3}};
  auto x = random_inputs(c);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = i <= kV ? x[i].to(at::kBFloat16) : x[i].to(at::kFloat);
  }
  const auto mixed = op(c)(x);
  CHECK(mixed[0].scalar_type() == at::kBFloat16);
  for (const size_t i : {kQ, kK, kV}) x[i] = x[i].to(at::kFloat);
  const auto wide = op(c)(x);  // the same numbers
  check_bitwise("out", mixed[0], wide[0].to(at::kBFloat16));
  check_bitwise("state", mixed[1], wide[1]);
}

}  // namespace
}  // namespace tigon::testing::joint
