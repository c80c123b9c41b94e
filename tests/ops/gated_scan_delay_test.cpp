// gated_scan with queries that lag behind the keys, cached prefixes, a normalizer and fixed gates.
#include <ATen/ATen.h>

#include <limits>
#include <numeric>

#include "ops/gated_scan/gated_scan.h"
#include "ops/gated_scan_runs.h"
#include "support/gradcheck.h"
#include "support/refusal.h"
#include "support/tolerance.h"

namespace tigon::testing {
namespace {

constexpr int64_t kHeads = 6, kKeyHeads = 2, kK = 6, kV = 5;
const std::vector<std::string> kInputs = {"q", "k", "v", "log_gate", "initial_state"};
const std::vector<std::string> kOutputs = {"out", "state"};

const std::vector<Gate> kGates = {Gate::kPerChannel, Gate::kPerHead, Gate::kFixedPerChannel,
                                  Gate::kFixedPerHead};

struct Case {
  std::vector<int64_t> lengths;
  std::vector<int64_t> prefixes = {};  // keys before the first query; none if the list is empty
  int64_t delay = 0;
  Gate gate = Gate::kPerChannel;
  bool normalizer = false;

  Segments segments() const { return Segments::from_lengths(lengths, test_device()); }
  Segments keys() const { return keys_of(lengths, prefixes); }
  GatedScanOptions options() const {
    GatedScanOptions options{.normalizer = normalizer, .delay = delay};
    if (!prefixes.empty()) options.key_segments = keys();
    return options;
  }
};

std::vector<at::Tensor> random_inputs(const Case& c) {
  const int64_t N = c.segments().total, M = c.keys().total, S = c.segments().count();
  const bool is_fixed = c.gate == Gate::kFixedPerChannel || c.gate == Gate::kFixedPerHead;
  const bool is_per_head = c.gate == Gate::kPerHead || c.gate == Gate::kFixedPerHead;
  const std::vector<int64_t> gate_shape = {is_fixed ? 1 : M, kKeyHeads, is_per_head ? 1 : kK};
  return {
      random_tensor({N, kHeads, kK}, 1, at::kDouble),
      random_tensor({M, kKeyHeads, kK}, 2, at::kDouble),
      random_tensor({M, kKeyHeads, kV}, 3, at::kDouble),
      at::log_sigmoid(random_tensor(gate_shape, 4, at::kDouble)) / 4,
      random_tensor({S, kKeyHeads, kK, kV + (c.normalizer ? 1 : 0)}, 5, at::kDouble),
  };
}

void check_case(const Case& c) {
  INFO("lengths " << at::IntArrayRef(c.lengths) << ", prefixes " << at::IntArrayRef(c.prefixes)
                  << ", delay " << c.delay << ", gate " << static_cast<int>(c.gate)
                  << ", normalizer " << c.normalizer);
  const auto inputs = random_inputs(c);
  check_runs(run_op(gated_scan_of(c), inputs, at::kDouble),
             run_op(gated_scan_recurrent_of(c), inputs, at::kDouble), kOutputs, kInputs,
             kExactMath);
}

TEST_CASE("a delayed gated_scan equals the recurrence, every gradient by name", "[gated_scan]") {
  for (const Gate gate : kGates) {
    for (const bool normalizer : {false, true}) {
      check_case({{70, 1, 0, 33}, {}, 3, gate, normalizer});
      check_case({{70, 1, 0, 33}, {2, 9, 4, 0}, 3, gate, normalizer});
    }
    check_case({{1, 1, 1}, {0, 5, 2}, 3, gate, true});  // decoding
    check_case({{64, 64}, {7, 7}, 7, gate});
    check_case({{5, 3}, {4, 0}, 0, gate});  // a prefix that the state already holds
  }
  for (const int64_t delay : {0, 1, 63, 64, 65, 100}) {
    check_case({{70, 120}, {}, delay, Gate::kFixedPerChannel});
  }
}

TEST_CASE("a query of gated_scan sees the state of `delay` tokens before", "[gated_scan]") {
  const int64_t T = 9, delay = 4;
  const auto x = random_inputs({{T}});
  const Segments one = Segments::from_lengths({1}, test_device());
  std::vector<at::Tensor> states = {x[4]};  // after 0, 1, 2, … keys
  for (int64_t t = 0; t < T; ++t) {
    const auto token = [&](size_t i) { return x[i].slice(0, t, t + 1); };
    states.push_back(
        gated_scan_recurrent(token(0), token(1), token(2), token(3), one, states.back()).state);
  }
  const auto found = gated_scan_of(Case{{T}, {}, delay})(x);
  for (int64_t t = 0; t < T; ++t) {
    const at::Tensor state = states[std::max<int64_t>(t + 1 - delay, 0)][0];  // [Hk, K, V]
    const at::Tensor expected = x[0][t].unflatten(0, {kKeyHeads, -1}).matmul(state).flatten(0, 1);
    check_close("query " + std::to_string(t), found[0][t], expected, kExactMath);
  }
  check_close("state", found[1], states[T - delay], kExactMath);
}

TEST_CASE("a delayed gated_scan in parts equals one call", "[gated_scan]") {
  const int64_t T = 90, delay = 7;
  for (const Gate gate : kGates) {
    const auto x = random_inputs({{T}, {}, delay, gate, true});
    const auto whole = gated_scan_of(Case{{T}, {}, delay, gate, true})(x);
    for (const std::vector<int64_t>& parts :
         {std::vector<int64_t>{40, 50}, {3, 2, 85}, std::vector<int64_t>(T, 1)}) {
      at::Tensor state = x[4];
      int64_t from = 0;
      for (const int64_t length : parts) {
        const int64_t prefix = std::min(from, delay);
        const auto keys = [&](const at::Tensor& y) {
          return y.size(0) == T ? y.slice(0, from - prefix, from + length) : y;
        };
        const auto part = gated_scan_of(Case{{length}, {prefix}, delay, gate, true})(
            {x[0].slice(0, from, from + length), keys(x[1]), keys(x[2]), keys(x[3]), state});
        check_close("outputs from " + std::to_string(from), part[0],
                    whole[0].slice(0, from, from + length), kExactMath);
        state = part[1];
        from += length;
      }
      check_close("state", state, whole[1], kExactMath);
    }
  }
}

TEST_CASE("a delayed gated_scan reads only the keys that enter", "[gated_scan]") {
  const Case c{{5, 2}, {4, 6}, 3};  // keys 1 … 5 of 9 and 3 … 4 of 8
  const auto x = random_inputs(c);
  const auto expected = gated_scan_of(c)(x);
  auto poisoned = x;
  for (size_t i = 1; i < 4; ++i) {
    poisoned[i] = at::full_like(x[i], std::numeric_limits<double>::quiet_NaN());
    for (const int64_t key : {1, 2, 3, 4, 5, 9 + 3, 9 + 4}) poisoned[i][key] = x[i][key];
  }
  const auto found = gated_scan_of(c)(poisoned);
  check_bitwise("out", found[0], expected[0]);
  check_bitwise("state", found[1], expected[1]);
}

TEST_CASE("the normalizer of gated_scan is the scan of ones", "[gated_scan]") {
  for (const std::vector<int64_t>& lengths : {std::vector<int64_t>{70, 3}, {1, 1}}) {
    const Case c{lengths, {}, 2, Gate::kPerChannel, true};
    const auto x = random_inputs(c);
    const auto both = gated_scan_of(c)(x);
    const at::Tensor values = x[4].narrow(-1, 0, kV), sums = x[4].narrow(-1, kV, 1);
    const GatedScanOptions delayed{.delay = c.delay};
    const auto plain = gated_scan(x[0], x[1], x[2], x[3], c.segments(), values, delayed);
    const auto ones = gated_scan(x[0], x[1], at::ones_like(x[2].narrow(-1, 0, 1)), x[3],
                                 c.segments(), sums, delayed);
    check_close("out", both[0], at::cat({plain.out, ones.out}, -1), kExactMath);
    check_close("state", both[1], at::cat({plain.state, ones.state}, -1), kExactMath);
  }
}

TEST_CASE("gated_scan gives a wide normalizer for bf16 inputs", "[gated_scan]") {
  const Case c{{40, 1, 9}, {}, 2, Gate::kPerChannel, true};
  auto inputs = random_inputs(c);
  for (at::Tensor& input : inputs) input = rounded_to_bf16(input);
  const OpRun found = run_op(gated_scan_of(c), inputs, at::kBFloat16);
  CHECK(found.outputs[0].scalar_type() == at::kFloat);
  const OpRun expected = run_op(gated_scan_recurrent_of(c), inputs, at::kDouble);
  check_close("out", found.outputs[0], expected.outputs[0], kFloat32Op);
  check_close("state", found.outputs[1], expected.outputs[1], kFloat32Op);
  const double kUlp = std::numeric_limits<at::BFloat16>::epsilon();
  check_runs(found, expected, kOutputs, kInputs, kLowPrecisionUlps * kUlp);
}

TEST_CASE("a fixed gate of gated_scan is that gate at every token", "[gated_scan]") {
  for (const Gate gate : {Gate::kFixedPerChannel, Gate::kFixedPerHead}) {
    const Case fixed{{70, 1, 20}, {3, 3, 0}, 3, gate};
    const OpFunction repeated = [&](const std::vector<at::Tensor>& x) -> std::vector<at::Tensor> {
      const at::Tensor log_gate = x[3].repeat({x[1].size(0), 1, 1});
      return gated_scan_of(fixed)({x[0], x[1], x[2], log_gate, x[4]});
    };
    const auto x = random_inputs(fixed);
    check_runs(run_op(gated_scan_of(fixed), x, at::kDouble), run_op(repeated, x, at::kDouble),
               kOutputs, kInputs, kExactMath);
  }
}

TEST_CASE("delayed gated_scan gradients against finite differences", "[gated_scan]") {
  for (const Gate gate : kGates) {
    for (const Case& c :
         {Case{{9, 1, 0, 4}, {0, 5, 2, 1}, 3, gate, true}, Case{{1, 1}, {3, 1}, 2, gate, true}}) {
      const auto x = random_inputs(c);
      std::vector<std::pair<std::string, at::Tensor>> named;
      for (size_t i = 0; i < x.size(); ++i) named.emplace_back(kInputs[i], x[i]);
      check_gradients(gated_scan_of(c), named);
    }
  }
}

TEST_CASE("delayed gated_scan gives frozen inputs no gradient", "[gated_scan]") {
  const Case c{{20, 3}, {2, 0}, 3, Gate::kFixedPerChannel, true};
  check_frozen_inputs(gated_scan_of(c), random_inputs(c), kInputs);
}

TEST_CASE("delayed gated_scan takes inputs of any memory layout", "[gated_scan]") {
  for (const std::vector<int64_t>& lengths : {std::vector<int64_t>{70, 3}, {1, 1}}) {
    const Case c{lengths, {2, 5}, 3, Gate::kFixedPerChannel, true};
    const auto x = random_inputs(c);
    std::vector<at::Tensor> strided;
    for (const at::Tensor& input : x) strided.push_back(non_contiguous(input));
    const auto expected = gated_scan_of(c)(x), found = gated_scan_of(c)(strided);
    check_close("out", found[0], expected[0], kExactMath);
    check_close("state", found[1], expected[1], kExactMath);
  }
}

TEST_CASE("delayed gated_scan leaves the state of an empty segment as it was", "[gated_scan]") {
  const Case c{{0, 0}, {3, 5}, 2, Gate::kPerChannel, true};
  const auto x = random_inputs(c);
  const auto found = gated_scan_of(c)(x);
  CHECK(found[0].sizes() == at::IntArrayRef({0, kHeads, kV + 1}));
  check_bitwise("state", found[1], x[4]);
}

TEST_CASE("gated_scan refuses delays, prefixes and fixed gates that do not fit", "[gated_scan]") {
  const Case c{{6, 4}, {2, 1}, 2, Gate::kFixedPerChannel, true};
  const auto x = random_inputs(c);
  const auto with = [&](size_t changed, const at::Tensor& to) {
    auto y = x;
    y[changed] = to;
    return [=] { gated_scan_of(c)(y); };
  };
  const auto like = [](at::IntArrayRef shape) { return random_tensor(shape, 1, at::kDouble); };
  check_refused(
      [&] {
        gated_scan_of(Case{{6, 4}, {2, 1}, -1, Gate::kFixedPerChannel, true})(x);
      },
      "[gated_scan] delay: expected 0 or more, found -1");
  check_refused(
      [&] {
        gated_scan_of(Case{{6, 4}, {4, -1}, 2, Gate::kFixedPerChannel, true})(x);
      },
      "key_cu_seqlens: expected at least as many keys as queries, 4, in segment 1");
  check_refused(with(1, like({12, 2, 6})), "expected the sum 12");
  check_refused(with(2, like({10, 2, 5})), "[gated_scan] v: expected shape [13, any, any]");
  check_refused(with(3, like({10, 2, 6})),
                "[gated_scan] log_gate: expected [13, heads], [13 or 1, heads, 1]");
  check_refused(with(3, like({1, 2})), "[gated_scan] log_gate: expected [13, heads]");
  check_refused(with(4, like({2, 2, 6, 5})),
                "[gated_scan] initial_state: expected shape [2, 2, 6, 6], found [2, 2, 6, 5]");
}

}  // namespace
}  // namespace tigon::testing
