#include "ops/gated_scan/gated_scan.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>
#include <numeric>

#include "io/safetensors.h"
#include "ops/gated_scan_runs.h"
#include "support/allocations.h"
#include "support/gradcheck.h"
#include "support/refusal.h"
#include "support/shared_material.h"
#include "support/tolerance.h"

namespace tigon::testing {
namespace {

struct Case {
  std::vector<int64_t> lengths;
  int64_t H, Hk, Hv, Hg;
  bool per_head = false;    // gates
  int64_t state_heads = 0;  // 0: the default
  int64_t K = 6, V = 5;

  Segments segments() const { return Segments::from_lengths(lengths, test_device()); }
  GatedScanOptions options() const { return {.state_heads = state_heads}; }
  int64_t Hs() const { return state_heads == 0 ? std::max({Hk, Hv, Hg}) : state_heads; }
};

const std::vector<std::string> kInputs = {"q", "k", "v", "log_gate", "initial_state"};
const std::vector<std::string> kOutputs = {"out", "state"};

// q, k, v, log_gate, initial_state in float64.
std::vector<at::Tensor> random_inputs(const Case& c) {
  const int64_t N = std::accumulate(c.lengths.begin(), c.lengths.end(), int64_t{0});
  const auto S = static_cast<int64_t>(c.lengths.size());
  return {random_tensor({N, c.H, c.K}, 1, at::kDouble),
          random_tensor({N, c.Hk, c.K}, 2, at::kDouble),
          random_tensor({N, c.Hv, c.V}, 3, at::kDouble),
          at::log_sigmoid(random_tensor({N, c.Hg, c.per_head ? 1 : c.K}, 4, at::kDouble)) / 4,
          random_tensor({S, c.Hs(), c.K, c.V}, 5, at::kDouble)};
}

void check_case(const Case& c) {
  INFO("lengths " << at::IntArrayRef(c.lengths) << ", heads " << c.H << " " << c.Hk << " " << c.Hv
                  << " " << c.Hg << ", state_heads " << c.state_heads << ", per head "
                  << c.per_head);
  const std::vector<at::Tensor> inputs = random_inputs(c);
  check_runs(run_op(gated_scan_of(c), inputs, at::kDouble),
             run_op(gated_scan_recurrent_of(c), inputs, at::kDouble), kOutputs, kInputs,
             kExactMath);
}

TEST_CASE("gated_scan equals golden values, every gradient by name", "[gated_scan]") {
  TIGON_SHARED_OR_SKIP(path, "golden/ops/gated_scan.safetensors");
  const SafetensorsFile file(path);
  const auto tokens = [&](const std::string& name) { return golden(file, name).flatten(0, 1); };
  const at::Tensor q = tokens("q").requires_grad_(true), k = tokens("k").requires_grad_(true);
  const at::Tensor v = tokens("v").requires_grad_(true);
  const at::Tensor gate_logit = tokens("gate_logit").requires_grad_(true);
  const at::Tensor s0 = golden(file, "s0").requires_grad_(true);
  const int64_t T = golden(file, "q").size(1);
  const Segments segments = Segments::from_lengths({T, T}, test_device());
  const auto [out, state] = gated_scan(q, k, v, at::log_sigmoid(gate_logit), segments, s0);
  check_close("o", out, tokens("o"), kFloat32Op);
  check_close("state", state, golden(file, "state"), kFloat32Op);
  const auto gradients = torch::autograd::grad({out}, {q, k, v, gate_logit, s0}, {tokens("do")});
  check_close("dq", gradients[0], tokens("dq"), kFloat32Op);
  check_close("dk", gradients[1], tokens("dk"), kFloat32Op);
  check_close("dv", gradients[2], tokens("dv"), kFloat32Op);
  check_close("dgate_logit", gradients[3], tokens("dgate_logit"), kFloat32Op);
  check_close("ds0", gradients[4], golden(file, "ds0"), kFloat32Op);
}

TEST_CASE("gated_scan equals the recurrence at every length", "[gated_scan]") {
  for (const bool per_head : {false, true}) {
    for (const int64_t length : {1, 2, 63, 64, 65, 200})
      check_case({{length}, 4, 2, 2, 2, per_head});
    check_case({{128, 128}, 4, 2, 2, 2, per_head});
    check_case({{1, 1, 1}, 4, 2, 2, 2, per_head});
    check_case({{65, 1, 0, 200, 63, 0, 64}, 4, 2, 2, 2, per_head});
    check_case({{1, 0, 1}, 4, 2, 2, 2, per_head});
  }
}

TEST_CASE("gated_scan equals the recurrence for every grouping of heads", "[gated_scan]") {
  for (const std::vector<int64_t>& lengths : {std::vector<int64_t>{70, 1, 30}, {1, 1}}) {
    for (const bool per_head : {false, true}) {
      check_case({lengths, 4, 4, 4, 4, per_head});     // no groups
      check_case({lengths, 4, 1, 1, 1, per_head});     // one group
      check_case({lengths, 4, 2, 2, 2, per_head, 4});  // a state per query head
      check_case({lengths, 8, 2, 2, 2, per_head, 4});
      check_case({lengths, 4, 2, 2, 4, per_head});  // a gate per query head
      check_case({lengths, 4, 4, 2, 1, per_head});  // keys per query head
      check_case({lengths, 4, 1, 4, 2, per_head});  // values per query head
    }
  }
  check_case({{70, 3}, 2, 1, 1, 1, false, 0, 1, 4});  // one channel
}

TEST_CASE("gated_scan takes gates per head with and without a last dimension", "[gated_scan]") {
  const Case c{{20, 5}, 4, 2, 2, 2, true};
  const auto x = random_inputs(c);
  const at::Tensor with = gated_scan(x[0], x[1], x[2], x[3], c.segments(), x[4]).out;
  const at::Tensor without = gated_scan(x[0], x[1], x[2], x[3].squeeze(-1), c.segments(), x[4]).out;
  check_bitwise("out", without, with);
}

TEST_CASE("gated_scan called by name reads the lengths from cu_seqlens", "[gated_scan]") {
  const Case c{{20, 0, 5}, 4, 2, 2, 2};
  const auto x = random_inputs(c);
  torch::jit::Stack stack;  // as Python calls it
  for (size_t i = 0; i < 4; ++i) stack.emplace_back(x[i]);
  stack.emplace_back(c.segments().cu_seqlens);
  stack.emplace_back(x[4]);
  stack.emplace_back(int64_t{0});
  stack.emplace_back();  // lengths
  stack.emplace_back(false);
  stack.emplace_back(int64_t{0});
  stack.emplace_back();  // key_cu_seqlens
  stack.emplace_back();  // key_lengths
  c10::Dispatcher::singleton().findSchemaOrThrow("tigon::gated_scan", "").callBoxed(&stack);
  const auto expected = gated_scan_of(c)(x);
  check_bitwise("out", stack[0].toTensor(), expected[0]);
  check_bitwise("state", stack[1].toTensor(), expected[1]);
}

TEST_CASE("gated_scan in two calls equals one", "[gated_scan]") {
  const Case c{{150, 90}, 4, 2, 2, 2};
  const auto x = random_inputs(c);
  const auto whole = gated_scan(x[0], x[1], x[2], x[3], c.segments(), x[4]);
  const std::vector<int64_t> first_lengths = {100, 1}, second_lengths = {50, 89};
  const auto part = [](const at::Tensor& all, bool first) {  // of tokens or outputs
    const auto documents = all.split_with_sizes({150, 90});
    return first ? at::cat({documents[0].slice(0, 0, 100), documents[1].slice(0, 0, 1)})
                 : at::cat({documents[0].slice(0, 100), documents[1].slice(0, 1)});
  };
  const auto call = [&](bool first, const at::Tensor& state) {
    return gated_scan(part(x[0], first), part(x[1], first), part(x[2], first), part(x[3], first),
                      Segments::from_lengths(first ? first_lengths : second_lengths, test_device()),
                      state);
  };
  const auto first = call(true, x[4]);
  const auto second = call(false, first.state);
  check_close("first outputs", first.out, part(whole.out, true), kExactMath);
  check_close("second outputs", second.out, part(whole.out, false), kExactMath);
  check_close("state", second.state, whole.state, kExactMath);
}

TEST_CASE("gated_scan leaves the state of an empty segment as it was", "[gated_scan]") {
  const Case c{{0, 3, 0}, 4, 2, 2, 2};
  const auto x = random_inputs(c);
  const at::Tensor state = gated_scan(x[0], x[1], x[2], x[3], c.segments(), x[4]).state;
  check_bitwise("state 0", state[0], x[4][0]);
  check_bitwise("state 2", state[2], x[4][2]);
  const Case empty{{0, 0}, 4, 2, 2, 2};
  const auto y = random_inputs(empty);
  const auto result = gated_scan(y[0], y[1], y[2], y[3], empty.segments(), y[4]);
  CHECK(result.out.sizes() == at::IntArrayRef({0, 4, 5}));
  check_bitwise("state", result.state, y[4]);
}

TEST_CASE("gated_scan in float32 holds for log-gates from 0 to -100", "[gated_scan]") {
  for (const bool per_head : {false, true}) {
    const Case c{{150, 1, 64}, 4, 2, 2, 2, per_head};
    std::vector<at::Tensor> inputs = random_inputs(c);
    const at::Tensor mild = inputs[3], dice = random_tensor(mild.sizes(), 9, at::kDouble);
    const at::Tensor zero = at::zeros_like(mild), closed = at::full_like(mild, -100);
    const std::vector<std::pair<std::string, at::Tensor>> gates = {
        {"all 0", zero},
        {"all -100", closed},
        {"0 and -100", at::where(dice > 1.5, closed, zero)},
        {"0, mild and -100", at::where(dice > 1.5, closed, at::where(dice < 0, zero, mild))},
        {"anything between", -100 * at::sigmoid(4 * dice - 8)},
        {"-1e-6", at::full_like(mild, -1e-6)}};
    for (const auto& [name, gate] : gates) {
      INFO("log-gates " << name << ", per head " << per_head);
      // Both take the same float32 numbers.
      for (at::Tensor& input : inputs) input = input.to(at::kFloat).to(at::kDouble);
      inputs[3] = gate.to(at::kFloat).to(at::kDouble);
      OpRun found = run_op(gated_scan_of(c), inputs, at::kFloat);
      OpRun expected = run_op(gated_scan_recurrent_of(c), inputs, at::kDouble);
      if (name == "all -100") {  // true gradients near exp(-100), which float32 hardly holds
        for (const size_t i : {3, 4}) {
          CHECK(found.gradients[i].abs().max().item<double>() < 1e-40);
          found.gradients[i] = expected.gradients[i];
        }
      }
      check_runs(found, expected, kOutputs, kInputs, kFloat32Op);
    }
  }
}

TEST_CASE("gated_scan gradients against finite differences", "[gated_scan]") {
  for (const bool per_head : {false, true}) {
    for (const Case& c :
         {Case{{9, 1, 0, 4}, 4, 2, 2, 2, per_head}, Case{{1, 1}, 4, 2, 2, 2, per_head}}) {
      const auto x = random_inputs(c);
      std::vector<std::pair<std::string, at::Tensor>> named;
      for (size_t i = 0; i < x.size(); ++i) named.emplace_back(kInputs[i], x[i]);
      check_gradients(gated_scan_of(c), named);
    }
  }
}

TEST_CASE("gated_scan of bf16 inputs runs in float32", "[gated_scan]") {
  const Case c{{100, 1, 30}, 4, 2, 2, 2};
  std::vector<at::Tensor> inputs = random_inputs(c);
  for (at::Tensor& input : inputs) input = rounded_to_bf16(input);
  const OpRun found = run_op(gated_scan_of(c), inputs, at::kBFloat16);
  CHECK(found.outputs[0].scalar_type() == at::kBFloat16);
  CHECK(found.outputs[1].scalar_type() == at::kFloat);
  OpRun expected = run_op(gated_scan_recurrent_of(c), inputs, at::kDouble);
  const double kUlp = std::numeric_limits<at::BFloat16>::epsilon();
  // Only the upstream gradients and the results are rounded.
  check_runs(found, expected, kOutputs, kInputs, kLowPrecisionUlps * kUlp);
  check_close("state", found.outputs[1], expected.outputs[1], kFloat32Op);
}

TEST_CASE("gated_scan takes inputs of any memory layout and leaves them alone", "[gated_scan]") {
  for (const std::vector<int64_t>& lengths : {std::vector<int64_t>{70, 3}, {64, 64}, {1, 1}}) {
    const Case c{lengths, 4, 1, 1, 1};
    const auto x = random_inputs(c);
    std::vector<at::Tensor> strided, before;
    for (const at::Tensor& input : x) strided.push_back(non_contiguous(input));
    for (const at::Tensor& input : x) before.push_back(input.clone());
    const auto expected = gated_scan_of(c)(x), found = gated_scan_of(c)(strided);
    check_close("out", found[0], expected[0], kExactMath);
    check_close("state", found[1], expected[1], kExactMath);
    for (size_t i = 0; i < x.size(); ++i) check_bitwise(kInputs[i], x[i], before[i]);
  }
}

TEST_CASE("gated_scan gives frozen inputs no gradient", "[gated_scan]") {
  const Case c{{70, 3}, 4, 2, 2, 2};
  check_frozen_inputs(gated_scan_of(c), random_inputs(c), kInputs);
}

TEST_CASE("gated_scan differentiates either output alone", "[gated_scan]") {
  const Case c{{70, 3}, 4, 2, 2, 2};
  for (const size_t output : {0, 1}) {
    const auto only = [&](const OpFunction& op) -> OpFunction {
      return [=](const std::vector<at::Tensor>& x) {
        // Keeps q and v in the graph of the state alone.
        return std::vector<at::Tensor>{op(x)[output] + 0 * x[0].sum() + 0 * x[2].sum()};
      };
    };
    check_runs(run_op(only(gated_scan_of(c)), random_inputs(c), at::kDouble),
               run_op(only(gated_scan_recurrent_of(c)), random_inputs(c), at::kDouble),
               {kOutputs[output]}, kInputs, kExactMath);
  }
}

TEST_CASE("gated_scan never repeats keys, values or gates for the heads of q", "[gated_scan]") {
  const Case c{{256, 256}, 8, 1, 1, 1, false, 0, 64, 64};
  auto x = random_inputs(c);
  for (at::Tensor& input : x) input = input.to(at::kFloat).requires_grad_(true);
  const int64_t query_bytes = x[0].numel() * static_cast<int64_t>(sizeof(float));
  AllocationRecorder allocations;
  const auto outputs = gated_scan_of(c)(x);
  CHECK(allocations.largest() <= query_bytes);
  // What stays for the backward pass: the states between blocks; its inputs were there before.
  const int64_t state_bytes = 8 * 64 * 64 * static_cast<int64_t>(sizeof(float));
  CHECK(allocations.alive() <= query_bytes + 2 * state_bytes);
  torch::autograd::grad({outputs[0].sum()}, x);
  CHECK(allocations.largest() <= query_bytes);
}

TEST_CASE("gated_scan has no second derivative and says so", "[gated_scan]") {
  const Case c{{5}, 4, 2, 2, 2};
  auto x = random_inputs(c);
  x[0].requires_grad_(true);
  const auto outputs = gated_scan_of(c)(x);
  check_refused([&] { torch::autograd::grad({outputs[0].sum()}, {x[0]}, {}, true, true); },
                "[gated_scan] double backward");
}

TEST_CASE("gated_scan refuses arguments that do not fit", "[gated_scan]") {
  const Case c{{6, 4}, 4, 2, 2, 2};
  const auto x = random_inputs(c);
  const auto call = [&](size_t changed, const at::Tensor& to) {
    auto y = x;
    y[changed] = to;
    return [=] { gated_scan_of(c)(y); };
  };
  const auto like = [](at::IntArrayRef shape) { return random_tensor(shape, 1, at::kDouble); };
  check_refused(call(0, like({10, 24})),
                "[gated_scan] q: expected shape [any, any, any], found [10, 24]");
  check_refused(call(0, like({9, 4, 6})), "expected the sum 9");
  check_refused(call(0, x[0].to(at::kLong)), "[gated_scan] q: expected a floating-point dtype");
  check_refused(call(1, like({9, 2, 6})),
                "k: expected one key for each of the 10 queries where key_cu_seqlens is not given, "
                "found 9");
  check_refused(call(1, like({10, 2, 5})), "[gated_scan] k: expected shape [10, any, 6]");
  check_refused(call(1, like({10, 3, 6})),
                "[gated_scan] k: expected a number of heads that divides the 4 of q, found 3");
  check_refused(call(1, x[1].to(at::kFloat)),
                "[gated_scan] k: expected float64 exactly if q (Double) is, found Float");
  check_refused(call(1, x[1].to(at::kMeta)), "[gated_scan] k: expected device");
  check_refused(call(2, like({10, 2})), "[gated_scan] v: expected shape [10, any, any]");
  check_refused(call(2, like({10, 3, 5})), "[gated_scan] v: expected a number of heads");
  check_refused(call(3, like({10, 2, 4})),
                "[gated_scan] log_gate: expected [10, heads], [10 or 1, heads, 1] or [10 or 1, "
                "heads, 6]");
  check_refused(call(3, like({10, 3, 6})), "[gated_scan] log_gate: expected a number of heads");
  check_refused(call(4, like({2, 2, 6, 6})),
                "[gated_scan] initial_state: expected shape [2, 2, 6, 5], found [2, 2, 6, 6]");
  for (const int64_t state_heads : {1, 3, 8, -2}) {
    check_refused(
        [&] {
          gated_scan(x[0], x[1], x[2], x[3], c.segments(), std::nullopt,
                     {.state_heads = state_heads});
        },
        "[gated_scan] state_heads: expected a multiple of 2");
  }
  const at::Tensor six = like({10, 6, 6});
  check_refused(
      [&] {
        gated_scan(six, like({10, 2, 6}), like({10, 3, 6}), like({10, 1, 6}), c.segments());
      },
      "[gated_scan] k: expected a number of heads that divides or is a multiple of the 3 of v, "
      "found 2");
}

}  // namespace
}  // namespace tigon::testing
