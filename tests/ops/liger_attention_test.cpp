#include "ops/liger_attention/liger_attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>
#include <sstream>

#include "io/safetensors.h"
#include "ops/gated_scan/gated_scan.h"
#include "ops/op_run.h"
#include "ops/rope/rope.h"
#include "ops/rope_inputs.h"
#include "ops/window_attention/window_attention.h"
#include "support/gradcheck.h"
#include "support/refusal.h"
#include "support/shared_material.h"
#include "support/tolerance.h"

namespace tigon::testing {
namespace {

constexpr int64_t kHeads = 4, kKvHeads = 2, kSize = 8;
const std::vector<std::string> kInputs = {"q", "k", "v", "initial_state"};
const std::vector<std::string> kOutputs = {"out", "state"};

std::vector<at::Tensor> random_inputs(const Segments& queries, const Segments& keys) {
  return {random_tensor({queries.total, kHeads, kSize}, 1, at::kDouble),
          random_tensor({keys.total, kKvHeads, kSize}, 2, at::kDouble),
          random_tensor({keys.total, kKvHeads, kSize}, 3, at::kDouble),
          random_tensor({queries.count(), kKvHeads, kSize, kSize}, 4, at::kDouble)};
}

OpFunction op(const Segments& queries, const Segments& keys, const LigerAttentionOptions& options) {
  return [=](const std::vector<at::Tensor>& x) -> std::vector<at::Tensor> {
    const auto [out, state] = liger_attention(
        x[0], x[1], x[2], positions(keys), inverse_frequencies(x[0].size(-1)), queries, keys,
        options, x.size() > 3 ? std::optional<at::Tensor>(x[3]) : std::nullopt);
    return {out, state};
  };
}

// The two branches put together by hand, the recurrence token by token.
OpFunction by_hand(const Segments& segments, const LigerAttentionOptions& options) {
  return [=](const std::vector<at::Tensor>& x) -> std::vector<at::Tensor> {
    const at::Tensor frequencies = inverse_frequencies(x[0].size(-1)), at = positions(segments);
    WindowAttentionOptions window;
    window.window_keys = options.window_keys;
    const at::Tensor near = window_attention(rope(x[0], at, frequencies, options.rope_scale),
                                             rope(x[1], at, frequencies, options.rope_scale), x[2],
                                             segments, segments, window)
                                .out;
    const auto far =
        gated_scan_recurrent(x[0].softmax(-1), x[1].softmax(-1), x[2],
                             at::log_sigmoid(x[1]) / options.gate_normalizer, segments, x[3]);
    return {(1 - options.mix) * near + options.mix * far.out, far.state};
  };
}

std::vector<int64_t> parse_list(const std::string& text) {  // "[33, 1, 113]"
  std::istringstream stream(text.substr(1));
  std::vector<int64_t> values;
  for (int64_t value; stream >> value; stream.ignore(1)) values.push_back(value);
  return values;
}

void check_golden(const std::string& name) {
  TIGON_SHARED_OR_SKIP(path, "golden/ops/" + name);
  const SafetensorsFile file(path);
  const auto tokens = [&](const std::string& tensor) { return golden(file, tensor).flatten(0, 1); };
  const auto& metadata = file.metadata();
  const at::Tensor rows = golden(file, "q");
  const std::vector<int64_t> lengths = metadata.count("seq_lens")
                                           ? parse_list(metadata.at("seq_lens"))
                                           : std::vector<int64_t>(rows.size(0), rows.size(1));
  const Segments segments = Segments::from_lengths(lengths, test_device());
  const at::Tensor q = tokens("q").requires_grad_(true), k = tokens("k").requires_grad_(true);
  const at::Tensor v = tokens("v").requires_grad_(true);
  const double theta = std::stod(metadata.at("rope_theta"));
  const auto run = [&](double mix) {
    LigerAttentionOptions options;
    options.window_keys = std::stoll(metadata.at("window"));
    options.mix = mix;
    return liger_attention(q, k, v, positions(segments), inverse_frequencies(q.size(2), theta),
                           segments, segments, options);
  };
  check_close("o_window", run(0).out, tokens("o_window"), kFloat32Op);
  check_close("o_linear", run(1).out, tokens("o_linear"), kFloat32Op);
  const auto [out, state] = run(0.5);
  check_close("o", out, tokens("o"), kFloat32Op);
  check_close("state", state.repeat_interleave(q.size(1) / k.size(1), 1), golden(file, "state"),
              kFloat32Op);
  const auto gradients = torch::autograd::grad({out}, {q, k, v}, {tokens("do")});
  check_close("dq", gradients[0], tokens("dq"), kFloat32Op);
  check_close("dk", gradients[1], tokens("dk"), kFloat32Op);
  check_close("dv", gradients[2], tokens("dv"), kFloat32Op);
}

TEST_CASE("liger_attention equals golden values, every gradient by name", "[liger_attention]") {
  check_golden("liger_gla.safetensors");
}

TEST_CASE("liger_attention equals golden values of packed documents", "[liger_attention]") {
  check_golden("liger_gla_packed.safetensors");
}

TEST_CASE("liger_attention is its two branches, averaged", "[liger_attention]") {
  const LigerAttentionOptions unusual{9, 4, 0.3, 1.25};
  for (const std::vector<int64_t>& lengths :
       {std::vector<int64_t>{70, 1, 0, 33}, {64, 64}, {1, 1, 1}}) {
    const Segments segments = Segments::from_lengths(lengths, test_device());
    const auto x = random_inputs(segments, segments);
    check_runs(run_op(op(segments, segments, unusual), x, at::kDouble),
               run_op(by_hand(segments, unusual), x, at::kDouble), kOutputs, kInputs, kExactMath);
  }
}

TEST_CASE("liger_attention with a prefix and its state equals one call", "[liger_attention]") {
  // The second call gets the last keys of the first as its prefix, as a ring would hand them over.
  const int64_t T = 50, first = 30, prefix = 15;
  const LigerAttentionOptions options{16, 16, 0.5, 1};
  const Segments whole = Segments::from_lengths({T}, test_device());
  auto x = random_inputs(whole, whole);
  const at::Tensor frequencies = inverse_frequencies(kSize), all = positions(whole);
  const auto expected =
      liger_attention(x[0], x[1], x[2], all, frequencies, whole, whole, options, x[3]);
  const auto call = [&](int64_t from, int64_t to, int64_t cached, const at::Tensor& state) {
    const auto slice = [&](const at::Tensor& y) { return y.slice(0, from - cached, to); };
    return liger_attention(x[0].slice(0, from, to), slice(x[1]), slice(x[2]), slice(all),
                           frequencies, Segments::from_lengths({to - from}, test_device()),
                           Segments::from_lengths({to - from + cached}, test_device()), options,
                           state);
  };
  const auto start = call(0, first, 0, x[3]);
  const auto rest = call(first, T, prefix, start.state);
  check_close("first outputs", start.out, expected.out.slice(0, 0, first), kExactMath);
  check_close("second outputs", rest.out, expected.out.slice(0, first), kExactMath);
  check_close("state", rest.state, expected.state, kExactMath);
  at::Tensor state = start.state;  // token by token
  for (int64_t t = first; t < T; ++t) {
    const auto step = call(t, t + 1, prefix, state);
    check_close("output of token " + std::to_string(t), step.out, expected.out.slice(0, t, t + 1),
                kExactMath);
    state = step.state;
  }
  check_close("state", state, expected.state, kExactMath);
}

TEST_CASE("liger_attention gradients against finite differences", "[liger_attention]") {
  const Segments queries = Segments::from_lengths({7, 1, 4}, test_device());
  for (const Segments& keys : {queries, Segments::from_lengths({9, 4, 4}, test_device())}) {
    const auto x = random_inputs(queries, keys);
    std::vector<std::pair<std::string, at::Tensor>> named;
    for (size_t i = 0; i < x.size(); ++i) named.emplace_back(kInputs[i], x[i]);
    check_gradients(op(queries, keys, {3, 16, 0.5, 1}), named);
  }
}

TEST_CASE("liger_attention of bf16 inputs runs its recurrence in float32", "[liger_attention]") {
  const Segments segments = Segments::from_lengths({70, 3}, test_device());
  auto x = random_inputs(segments, segments);
  for (at::Tensor& input : x) input = rounded_to_bf16(input);
  const auto call = op(segments, segments, {16, 16, 0.5, 1});
  const OpRun found = run_op(call, x, at::kBFloat16);
  const OpRun exact = run_op(by_hand(segments, {16, 16, 0.5, 1}), x, at::kDouble);
  CHECK(found.outputs[0].scalar_type() == at::kBFloat16);
  CHECK(found.outputs[1].scalar_type() == at::kFloat);
  check_close("state", found.outputs[1], exact.outputs[1], kFloat32Op);
  const double kUlp = std::numeric_limits<at::BFloat16>::epsilon();
  check_runs(found, exact, kOutputs, kInputs, kLowPrecisionUlps * kUlp);
}

TEST_CASE("liger_attention gives frozen inputs no gradient", "[liger_attention]") {
  const Segments segments = Segments::from_lengths({20, 3}, test_device());
  check_frozen_inputs(op(segments, segments, {8, 16, 0.5, 1}), random_inputs(segments, segments),
                      kInputs);
}

TEST_CASE("liger_attention takes inputs of any memory layout", "[liger_attention]") {
  const Segments segments = Segments::from_lengths({20, 3}, test_device());
  const auto call = op(segments, segments, {8, 16, 0.5, 1});
  const auto x = random_inputs(segments, segments);
  std::vector<at::Tensor> strided;
  for (const at::Tensor& input : x) strided.push_back(non_contiguous(input));
  check_close("out", call(strided)[0], call(x)[0], kExactMath);
}

TEST_CASE("liger_attention refuses arguments that do not fit", "[liger_attention]") {
  const Segments segments = Segments::from_lengths({6, 4}, test_device());
  const auto x = random_inputs(segments, segments);
  const auto call = [&](size_t changed, const at::Tensor& to) {
    auto y = x;
    y[changed] = to;
    return [=] { op(segments, segments, {8, 16, 0.5, 1})(y); };
  };
  const auto like = [](at::IntArrayRef shape) { return random_tensor(shape, 1, at::kDouble); };
  check_refused(call(0, like({10, 32})), "[liger_attention] q: expected shape [any, any, any]");
  check_refused(call(0, x[0].to(at::kLong)), "[liger_attention] q: expected a floating-point");
  check_refused(call(1, like({10, 2, 6})), "[liger_attention] k: expected shape [any, any, 8]");
  check_refused(call(1, x[1].to(at::kFloat)), "[liger_attention] k: expected dtype Double");
  check_refused(call(2, like({9, 2, 8})), "[liger_attention] v: expected shape [10, 2, 8]");
  check_refused(call(2, x[2].to(at::kFloat)), "[liger_attention] v: expected dtype Double");
  check_refused(call(3, like({2, 4, 8, 8})), "initial_state: expected shape [2, 2, 8, 8]");
  const auto with = [&](const LigerAttentionOptions& options) {
    return [=] { op(segments, segments, options)(x); };
  };
  check_refused(with({0, 16, 0.5, 1}),
                "[liger_attention] window_keys: expected 1 or more, found 0");
  check_refused(with({8, 0, 0.5, 1}), "[liger_attention] gate_normalizer: expected more than 0");
  check_refused(with({8, 16, 1.5, 1}), "[liger_attention] mix: expected from 0 to 1, found 1.5");
  check_refused(
      [&] {
        liger_attention(x[0], x[1], x[2], positions(segments).slice(0, 1),
                        inverse_frequencies(kSize), segments, segments, {});
      },
      "[liger_attention] key_positions: expected shape [10], found [9]");
  check_refused(
      [&] {
        const Segments fewer = Segments::from_lengths({5, 5}, test_device());
        op(segments, fewer, {8, 16, 0.5, 1})(x);
      },
      "at least as many keys as queries");
}

}  // namespace
}  // namespace tigon::testing
