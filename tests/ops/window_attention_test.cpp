#include "ops/window_attention/window_attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>

#include "io/safetensors.h"
#include "ops/rope/rope.h"
#include "ops/window_attention_case.h"
#include "support/allocations.h"
#include "support/gradcheck.h"
#include "support/refusal.h"
#include "support/shared_material.h"
#include "support/tolerance.h"

namespace tigon::testing {
namespace {

using Case = WindowCase;

const std::vector<std::string> kInputs = {"q", "k", "v"};
const std::vector<std::string> kOutputs = {"out", "lse"};

OpFunction op(const Case& c) {
  return window_op(c);
}

void check_case(const Case& c) {
  INFO("queries " << at::IntArrayRef(c.lengths) << ", keys " << at::IntArrayRef(c.key_lengths)
                  << ", window " << c.options.window_keys << ", sinks " << c.options.sinks
                  << ", lse " << c.options.return_lse << ", heads " << c.H << " " << c.Hkv);
  const auto x = random_inputs(c);
  const OpRun expected = run_op(dense(c), x, at::kDouble);
  check_runs(run_op(op(c), x, at::kDouble), expected, kOutputs, kInputs, kExactMath);
  check_runs(run_op(op(c), x, at::kFloat), expected, kOutputs, kInputs, kFloat32Op);
}

TEST_CASE("window_attention equals golden values with sinks, every gradient by name",
          "[window_attention]") {
  TIGON_SHARED_OR_SKIP(path, "golden/ops/window_sinks.safetensors");
  const SafetensorsFile file(path);
  const auto tokens = [&](const std::string& name) { return golden(file, name).flatten(0, 1); };
  const at::Tensor q = tokens("q").requires_grad_(true), k = tokens("k").requires_grad_(true);
  const at::Tensor v = tokens("v").requires_grad_(true);
  const int64_t T = golden(file, "q").size(1), D = q.size(2);
  const Segments segments = Segments::from_lengths({T, T}, test_device());
  const auto on_device = at::TensorOptions(test_device());
  const at::Tensor positions = at::arange(T, on_device.dtype(at::kLong)).repeat({2});
  const at::Tensor frequencies = at::pow(std::stod(file.metadata().at("rope_theta")),
                                         -at::arange(0, D, 2, on_device.dtype(at::kDouble)) / D)
                                     .to(at::kFloat);
  WindowAttentionOptions options;
  options.window_keys = std::stoll(file.metadata().at("window"));
  options.sinks = std::stoll(file.metadata().at("sinks"));
  const at::Tensor out =
      window_attention(rope(q, positions, frequencies), rope(k, positions, frequencies), v,
                       segments, segments, options)
          .out;
  check_close("o", out, tokens("o"), kFloat32Op);
  const auto gradients = torch::autograd::grad({out}, {q, k, v}, {tokens("do")});
  check_close("dq", gradients[0], tokens("dq"), kFloat32Op);
  check_close("dk", gradients[1], tokens("dk"), kFloat32Op);
  check_close("dv", gradients[2], tokens("dv"), kFloat32Op);
}

TEST_CASE("window_attention equals the dense formula", "[window_attention]") {
  const std::vector<std::pair<std::vector<int64_t>, std::vector<int64_t>>> shapes = {
      {{200, 1, 0, 63, 65}, {200, 1, 0, 63, 65}},  // ragged, an empty one, one of a single token
      {{64, 64}, {64, 64}},                        // blocks without padding
      {{30, 1, 0, 17}, {90, 40, 5, 17}},           // cached prefixes
      {{1, 1, 1}, {64, 3, 20}},                    // decoding, ragged
      {{1, 1}, {48, 48}},                          // decoding, equal
      {{5, 5}, {40, 40}},
  };
  const std::vector<std::pair<int64_t, int64_t>> windows = {
      // window_keys, sinks
      {0, 0}, {1, 0}, {16, 0}, {16, 4}, {64, 3}, {5, 7}, {300, 2}, {40, 100}};
  for (const auto& [lengths, key_lengths] : shapes) {
    for (const auto& [window_keys, sinks] : windows) {
      for (const bool lse : {false, true}) {
        check_case({lengths, key_lengths, {window_keys, sinks, 0.4, lse}});
      }
    }
  }
}

TEST_CASE("window_attention shares keys and values in groups of every size", "[window_attention]") {
  for (const int64_t Hkv : {1, 2, 4}) {
    for (const int64_t window_keys : {0, 16}) {
      check_case({{70, 3}, {70, 3}, {window_keys, 2, 0, false}, 4, Hkv});
      check_case({{1, 1}, {20, 20}, {window_keys, 2, 0, true}, 4, Hkv});
    }
  }
}

TEST_CASE("window_attention without a scale divides by the root of the head size",
          "[window_attention]") {
  check_case({{40}, {40}, {16, 0, 0, true}, 4, 2, 9});
}

TEST_CASE("window_attention sees neither other segments nor later keys", "[window_attention]") {
  for (const int64_t window_keys : {0, 16}) {
    const Case c{{50, 30}, {50, 40}, {window_keys, 2, 0, true}};
    auto x = random_inputs(c);
    const auto before = op(c)(x);
    for (const size_t input : {1, 2}) {
      x[input].slice(0, 50).fill_(1e3);      // the second segment
      x[input].slice(0, 20, 50).fill_(1e3);  // the first from its token 20
    }
    const auto after = op(c)(x);
    check_close("out", after[0].slice(0, 0, 20), before[0].slice(0, 0, 20), kExactMath);
    check_close("lse", after[1].slice(0, 0, 20), before[1].slice(0, 0, 20), kExactMath);
  }
}

TEST_CASE("window_attention gradients against finite differences", "[window_attention]") {
  for (const int64_t window_keys : {0, 4}) {
    const Case c{{9, 1, 0, 4}, {9, 6, 2, 11}, {window_keys, 1, 0, true}};
    const auto x = random_inputs(c);
    check_gradients(op(c), {{"q", x[0]}, {"k", x[1]}, {"v", x[2]}});
  }
}

TEST_CASE("window_attention differentiates the log-sum-exp alone", "[window_attention]") {
  const Case c{{70, 3}, {70, 3}, {16, 2, 0, true}};
  const auto only_lse = [](const OpFunction& function) -> OpFunction {
    return [=](const std::vector<at::Tensor>& x) {
      return std::vector<at::Tensor>{function(x)[1] + 0 * x[2].sum()};  // v has no part in it
    };
  };
  const auto x = random_inputs(c);
  check_runs(run_op(only_lse(op(c)), x, at::kDouble), run_op(only_lse(dense(c)), x, at::kDouble),
             {"lse"}, kInputs, kExactMath);
}

TEST_CASE("window_attention of bf16 inputs runs its softmax in float32", "[window_attention]") {
  for (const auto& [window_keys, lse] : {std::pair{0, false}, {16, false}, {16, true}}) {
    INFO("window " << window_keys << ", lse " << lse);
    const Case c{{70, 3, 40}, {70, 3, 50}, {window_keys, 0, 0, lse}, 4, 2, 8};
    auto x = random_inputs(c);
    for (at::Tensor& input : x) input = rounded_to_bf16(input);
    const OpRun found = run_op(op(c), x, at::kBFloat16);
    CHECK(found.outputs[0].scalar_type() == at::kBFloat16);
    if (lse) CHECK(found.outputs[1].scalar_type() == at::kFloat);
    const OpRun exact = run_op(dense(c), x, at::kDouble);
    const OpRun plain = run_op(dense(c), x, at::kBFloat16);
    const auto check = [&](const std::string& name, const at::Tensor& f, const at::Tensor& p,
                           const at::Tensor& e) {
      const double kUlp = std::numeric_limits<at::BFloat16>::epsilon();
      check_close(name, f, e, kLowPrecisionFactor * relative_rms(p, e) + kLowPrecisionUlps * kUlp);
    };
    check("out", found.outputs[0], plain.outputs[0], exact.outputs[0]);
    for (size_t i = 0; i < 3; ++i) {
      check("d" + kInputs[i], found.gradients[i], plain.gradients[i], exact.gradients[i]);
    }
  }
}

TEST_CASE("window_attention takes inputs of any memory layout and leaves them alone",
          "[window_attention]") {
  for (const int64_t window_keys : {0, 16}) {
    for (const std::vector<int64_t>& lengths : {std::vector<int64_t>{70, 3}, {32, 32}, {1, 1}}) {
      const Case c{lengths, {70, 32}, {window_keys, 0, 0, window_keys > 0}, 4, 1};
      const Case fitting{lengths, lengths[0] == 70 ? std::vector<int64_t>{70, 3} : c.key_lengths,
                         c.options, 4, 1};
      const auto x = random_inputs(fitting);
      std::vector<at::Tensor> strided, before;
      for (const at::Tensor& input : x) strided.push_back(non_contiguous(input));
      for (const at::Tensor& input : x) before.push_back(input.clone());
      const auto expected = op(fitting)(x), found = op(fitting)(strided);
      check_close("out", found[0], expected[0], kExactMath);
      for (size_t i = 0; i < x.size(); ++i) check_bitwise(kInputs[i], x[i], before[i]);
    }
  }
}

TEST_CASE("window_attention gives frozen inputs no gradient", "[window_attention]") {
  const Case c{{70, 3}, {70, 3}, {16, 2, 0, true}};
  check_frozen_inputs(op(c), random_inputs(c), kInputs);
}

TEST_CASE("window_attention never holds the scores of all pairs", "[window_attention]") {
  const int64_t T = 4096;  // far above what a GPU's matrix library takes for itself
  const Case c{{T}, {T}, {64, 4, 0, true}, 4, 1, 16};
  auto x = random_inputs(c);
  for (at::Tensor& input : x) input = input.to(at::kFloat).requires_grad_(true);
  // A GPU's matrix library takes its workspace in the first call.
  torch::autograd::grad({op(c)(x)[0].sum()}, x);
  AllocationRecorder allocations;
  const auto outputs = op(c)(x);
  const int64_t all_pairs = c.H * T * T * static_cast<int64_t>(sizeof(float));
  CHECK(allocations.peak() < all_pairs / 4);
  torch::autograd::grad({outputs[0].sum()}, x);
  CHECK(allocations.peak() < all_pairs / 4);
}

TEST_CASE("window_attention of nothing is nothing", "[window_attention]") {
  for (const int64_t window_keys : {0, 16}) {
    const Case c{{0, 0}, {0, 4}, {window_keys, 1, 0, true}};
    const auto outputs = op(c)(random_inputs(c));
    CHECK(outputs[0].sizes() == at::IntArrayRef({0, 4, 6}));
    CHECK(outputs[1].sizes() == at::IntArrayRef({0, 4}));
  }
}

TEST_CASE("window_attention has no second derivative and says so", "[window_attention]") {
  const Case c{{20}, {20}, {8, 0, 0, false}};
  auto x = random_inputs(c);
  x[0].requires_grad_(true);
  const auto outputs = op(c)(x);
  check_refused([&] { torch::autograd::grad({outputs[0].sum()}, {x[0]}, {}, true, true); },
                "[window_attention] double backward");
}

TEST_CASE("window_attention refuses arguments that do not fit", "[window_attention]") {
  const Case c{{6, 4}, {6, 4}, {3, 0, 0, false}};
  const auto x = random_inputs(c);
  const auto call = [&](size_t changed, const at::Tensor& to) {
    auto y = x;
    y[changed] = to;
    return [=] { op(c)(y); };
  };
  const auto like = [](at::IntArrayRef shape) { return random_tensor(shape, 1, at::kDouble); };
  check_refused(call(0, like({10, 24})), "[window_attention] q: expected shape [any, any, any]");
  check_refused(call(0, x[0].to(at::kLong)), "[window_attention] q: expected a floating-point");
  check_refused(call(0, like({11, 4, 6})), "lengths: expected the sum 11");
  check_refused(call(1, like({10, 2, 5})), "[window_attention] k: expected shape [any, any, 6]");
  check_refused(call(1, x[1].to(at::kFloat)),
                "[window_attention] k: expected dtype Double, found Float");
  check_refused(call(1, x[1].to(at::kMeta)), "[window_attention] k: expected device");
  check_refused(call(2, like({9, 2, 6})), "[window_attention] v: expected shape [10, 2, 6]");
  check_refused(call(2, x[2].to(at::kFloat)),
                "[window_attention] v: expected dtype Double, found Float");
  check_refused(
      [&] {
        window_attention(x[0], like({10, 3, 6}), like({10, 3, 6}), c.queries(), c.keys(),
                         c.options);
      },
      "[window_attention] k: expected a number of heads that divides the 4 of q, found 3");
  const auto with = [&](const WindowAttentionOptions& options) {
    return [=] { window_attention(x[0], x[1], x[2], c.queries(), c.keys(), options); };
  };
  check_refused(with({-1, 0, 0, false}),
                "[window_attention] window_keys: expected 0 or more, found -1");
  check_refused(with({3, -2, 0, false}), "[window_attention] sinks: expected 0 or more, found -2");
  check_refused(with({3, 0, std::numeric_limits<double>::infinity(), false}),
                "[window_attention] scale: expected a finite number other than 0, found inf");
  const auto with_keys = [&](std::vector<int64_t> lengths) {
    return [=] {
      window_attention(x[0], x[1], x[2], c.queries(),
                       Segments::from_lengths(lengths, test_device()), c.options);
    };
  };
  check_refused(with_keys({10}), "key_cu_seqlens: expected the 2 segments of cu_seqlens, found 1");
  check_refused(with_keys({5, 5}), "at least as many keys as queries, 6, in segment 0, found 5");
}

}  // namespace
}  // namespace tigon::testing
