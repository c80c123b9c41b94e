// gated_scan in bf16 with the sizes that have GPU kernels. On the CPU the same cases judge the
// plain definition.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/function.h>

#include "ops/gated_scan/gated_scan.h"
#include "ops/gated_scan_runs.h"

namespace tigon::testing {
namespace {

const std::vector<std::string> kInputs = {"q", "k", "v", "log_gate", "initial_state"};
const std::vector<std::string> kOutputs = {"out", "state"};

struct Case {
  std::vector<int64_t> lengths;
  int64_t H, Hk, Hv, Hg, K, V;
  Gate gate = Gate::kPerChannel;
  int64_t state_heads = 0;
  bool normalizer = false;
  int64_t delay = 0;
  std::vector<int64_t> prefixes = {};  // keys before the first query; none if the list is empty

  Segments segments() const { return Segments::from_lengths(lengths, test_device()); }
  Segments keys() const { return keys_of(lengths, prefixes); }
  GatedScanOptions options() const {
    return {.state_heads = state_heads,
            .normalizer = normalizer,
            .delay = delay,
            .key_segments = keys()};
  }
};

/// bf16 values in float64; gates and state are float32 wherever the op runs in bf16.
std::vector<at::Tensor> inputs_of(const Case& c) {
  const int64_t N = c.segments().total, M = c.keys().total, S = c.segments().count();
  const int64_t Hs = c.state_heads == 0 ? std::max({c.Hk, c.Hv, c.Hg}) : c.state_heads;
  const bool is_fixed = c.gate == Gate::kFixedPerChannel || c.gate == Gate::kFixedPerHead;
  const bool is_per_head = c.gate == Gate::kPerHead || c.gate == Gate::kFixedPerHead;
  const auto draw = [](at::IntArrayRef shape, uint64_t seed) {
    return rounded_to_bf16(random_tensor(shape, seed, at::kDouble));
  };
  const std::vector<int64_t> gate_shape = {is_fixed ? 1 : M, c.Hg, is_per_head ? 1 : c.K};
  return {draw({N, c.H, c.K}, 1), draw({M, c.Hk, c.K}, 2), draw({M, c.Hv, c.V}, 3),
          rounded_to_bf16(at::log_sigmoid(draw(gate_shape, 4)) / 4),
          draw({S, Hs, c.K, c.V + (c.normalizer ? 1 : 0)}, 5) / 2};
}

/// run_op with upstream gradients that bf16 holds, so that both dtypes get the same.
OpRun run(const OpFunction& op, const std::vector<at::Tensor>& inputs, at::ScalarType dtype) {
  std::vector<at::Tensor> leaves, upstream;
  for (const at::Tensor& input : inputs) leaves.push_back(input.to(dtype).clone().requires_grad_());
  OpRun result;
  result.outputs = op(leaves);
  for (size_t i = 0; i < result.outputs.size(); ++i) {
    const at::Tensor& output = result.outputs[i];
    upstream.push_back(
        rounded_to_bf16(random_tensor(output.sizes(), 500 + i, at::kDouble)).to(output.dtype()));
  }
  result.gradients = torch::autograd::grad(result.outputs, leaves, upstream);
  return result;
}

/// The op as `function` runs it, with gates and state in float32 for bf16.
OpFunction with_wide_gates(const OpFunction& function) {
  return [=](std::vector<at::Tensor> x) {
    const at::ScalarType wide = x[0].scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    x[3] = x[3].to(wide);
    x[4] = x[4].to(wide);
    return function(x);
  };
}

/// Whether a node of this name made the tensor, or what it is a view of.
bool is_made_by(const std::shared_ptr<torch::autograd::Node>& node, const std::string& name) {
  if (!node) return false;
  if (node->name().find(name) != std::string::npos) return true;
  for (const auto& edge : node->next_edges()) {
    if (is_made_by(edge.function, name)) return true;
  }
  return false;
}

/// The gradient of a fixed gate is a sum over all tokens (and channels) whose terms have both
/// signs: its error is judged by the terms too, which the same gate at every token gives one by
/// one.
void check_fixed_gate(const Case& c, std::vector<at::Tensor> inputs, const at::Tensor& found,
                      const at::Tensor& expected) {
  inputs[3] = inputs[3].expand({c.keys().total, c.Hg, c.K}).contiguous();
  const at::Tensor terms = run(gated_scan_of(c), inputs, at::kDouble).gradients[3];  // [N, Hg, K]
  const auto norm = [](const at::Tensor& x) { return x.square().sum().sqrt().item<double>(); };
  const double error = norm(found.to(at::kDouble) - expected);
  INFO("dlog_gate: error " << error << ", sum " << norm(expected) << ", terms " << norm(terms));
  // Twice, because one rounded product enters the terms of all gates between two tokens.
  CHECK(error <= 2 * kBf16Product * (norm(terms) + norm(expected)));
}

void check_inputs(const Case& c, const std::vector<at::Tensor>& inputs) {
  INFO("lengths " << at::IntArrayRef(c.lengths) << ", heads " << c.H << " " << c.Hk << " " << c.Hv
                  << " " << c.Hg << ", state_heads " << c.state_heads << ", K " << c.K << ", V "
                  << c.V << ", gate " << static_cast<int>(c.gate) << ", normalizer " << c.normalizer
                  << ", delay " << c.delay << ", prefixes " << at::IntArrayRef(c.prefixes));
  const OpFunction op = with_wide_gates(gated_scan_of(c));
  const OpRun found = run(op, inputs, at::kBFloat16);
  const OpRun reference = run(op, inputs, at::kDouble);
  if (test_device().is_cuda()) {
    CHECK(is_made_by(found.outputs[0].grad_fn(), "::GatedScan"));
    CHECK_FALSE(is_made_by(found.outputs[0].grad_fn(), "::ChunkedScan"));
  }
  // The plain definition rounds its results alone; the kernels round the operands of products.
  check_close("out", found.outputs[0], reference.outputs[0], kBf16Product);
  CHECK(found.outputs[0].scalar_type() == (c.normalizer ? at::kFloat : at::kBFloat16));
  CHECK(found.outputs[1].scalar_type() == at::kFloat);
  check_close("state", found.outputs[1], reference.outputs[1], kBf16Product);
  for (size_t i = 0; i < kInputs.size(); ++i) {
    if (kInputs[i] == "log_gate" && inputs[i].size(0) == 1) {
      check_fixed_gate(c, inputs, found.gradients[i], reference.gradients[i]);
      continue;
    }
    check_close("d" + kInputs[i], found.gradients[i], reference.gradients[i], kBf16Product);
  }
}

void check_case(const Case& c) {
  check_inputs(c, inputs_of(c));
}

TEST_CASE("gated_scan in bf16 at odd lengths", "[gated_scan]") {
  check_case({{1, 63, 64, 65, 1}, 4, 2, 2, 2, 64, 64});
  check_case({{1000}, 4, 1, 1, 1, 64, 64});
  check_case({{2050, 0, 2}, 2, 2, 2, 2, 64, 64});
}

TEST_CASE("gated_scan in bf16 for keys of any number of channels", "[gated_scan]") {
  for (const int64_t K : {1, 40, 120}) {
    check_case({{130, 3}, 4, 2, 2, 2, K, 64});
    check_case({{70, 1}, 2, 1, 1, 1, K, 64, Gate::kPerHead, 0, true});
  }
}

TEST_CASE("gated_scan in bf16 for every state size", "[gated_scan]") {
  for (const int64_t K : {32, 64, 96, 128}) {
    for (const int64_t V : {32, 64, 96, 128}) {
      check_case({{130, 3}, 4, 2, 2, 2, K, V});
      check_case({{70}, 2, 1, 1, 1, K, V, Gate::kPerHead, 0, true});
    }
  }
}

TEST_CASE("gated_scan in bf16 for every kind of gate", "[gated_scan]") {
  for (const Gate gate :
       {Gate::kPerChannel, Gate::kPerHead, Gate::kFixedPerChannel, Gate::kFixedPerHead}) {
    for (const bool normalizer : {false, true}) {
      check_case({{150, 1, 70}, 4, 2, 2, 2, 64, 64, gate, 0, normalizer});
      check_case({{150, 1, 70}, 4, 2, 2, 4, 128, 64, gate, 0, normalizer});
    }
  }
}

TEST_CASE("gated_scan in bf16 with a delay and a cached prefix", "[gated_scan]") {
  for (const Gate gate :
       {Gate::kPerChannel, Gate::kPerHead, Gate::kFixedPerChannel, Gate::kFixedPerHead}) {
    for (const int64_t delay : {1, 64, 100}) {
      check_case({{150, 1, 70}, 4, 2, 2, 2, 64, 64, gate, 0, true, delay});
      check_case({{90, 3}, 4, 2, 2, 2, 128, 64, gate, 0, true, delay, {64, 20}});
    }
  }
  check_case({{90, 3}, 4, 2, 2, 2, 64, 64, Gate::kPerChannel, 0, false, 0, {5, 0}});
}

TEST_CASE("gated_scan in bf16 for every grouping of heads", "[gated_scan]") {
  const std::vector<int64_t> lengths = {150, 1, 30};
  check_case({lengths, 4, 4, 4, 4, 64, 64});
  check_case({lengths, 8, 2, 2, 2, 64, 64, Gate::kPerChannel, 4});
  check_case({lengths, 4, 2, 2, 2, 64, 64, Gate::kPerChannel, 4});
  check_case({lengths, 4, 4, 2, 1, 64, 64});
  check_case({lengths, 6, 1, 6, 3, 64, 32});
  check_case({lengths, 7, 1, 1, 1, 32, 64});
}

TEST_CASE("gated_scan in bf16 with log-gates from 0 to -100", "[gated_scan]") {
  for (const Gate gate : {Gate::kPerChannel, Gate::kPerHead}) {
    const Case c{{150, 1, 64}, 4, 2, 2, 2, 64, 64, gate};
    auto inputs = inputs_of(c);
    const at::Tensor mild = inputs[3], dice = random_tensor(mild.sizes(), 9, at::kDouble);
    const at::Tensor zero = at::zeros_like(mild), closed = at::full_like(mild, -100);
    const std::vector<std::pair<std::string, at::Tensor>> gates = {
        {"all 0", zero},
        {"0 and -100", at::where(dice > 1.5, closed, zero)},
        {"0, mild and -100", at::where(dice > 1.5, closed, at::where(dice < 0, zero, mild))},
        {"anything between", -100 * at::sigmoid(4 * dice - 8)},
        {"-1e-6", at::full_like(mild, -1e-6)},
        {"-1000 at times", at::where(dice > 1, 10 * closed, mild)}};
    for (const auto& [name, gate_values] : gates) {
      INFO("log-gates " << name);
      inputs[3] = gate_values.to(at::kFloat).to(at::kDouble);
      check_inputs(c, inputs);
    }
    inputs[3] = closed;  // nothing passes from token to token
    const OpFunction op = with_wide_gates(gated_scan_of(c));
    const OpRun found = run(op, inputs, at::kBFloat16);
    const OpRun reference = run(op, inputs, at::kDouble);
    check_close("out", found.outputs[0], reference.outputs[0], kBf16Product);
    for (const size_t i : {0, 1, 2}) {
      check_close("d" + kInputs[i], found.gradients[i], reference.gradients[i], kBf16Product);
    }
    for (const size_t i : {3, 4}) CHECK(found.gradients[i].abs().max().item<double>() < 1e-30);
  }
}

TEST_CASE("gated_scan in bf16 with gates in bf16", "[gated_scan]") {
  const Case c{{100, 33}, 4, 2, 2, 2, 64, 64};
  const auto inputs = inputs_of(c);
  const OpRun found = run(gated_scan_of(c), inputs, at::kBFloat16);
  const OpRun reference = run(gated_scan_of(c), inputs, at::kDouble);
  check_close("out", found.outputs[0], reference.outputs[0], kBf16Product);
  check_close("dlog_gate", found.gradients[3], reference.gradients[3], kBf16Product);
  CHECK(found.gradients[3].scalar_type() == at::kBFloat16);
}

TEST_CASE("gated_scan in bf16 without a state and with either output alone", "[gated_scan]") {
  const Case c{{100, 33}, 4, 2, 2, 2, 64, 64};
  auto inputs = inputs_of(c);
  inputs.pop_back();
  for (const size_t output : {0, 1}) {
    const OpFunction op = [&](const std::vector<at::Tensor>& x) -> std::vector<at::Tensor> {
      const auto [out, state] = gated_scan(x[0], x[1], x[2], x[3], c.segments());
      // Keeps all inputs in the graph of the state alone.
      return {(output == 0 ? out : state) + 0 * x[0].sum() + 0 * x[2].sum()};
    };
    const OpRun found = run(op, inputs, at::kBFloat16);
    const OpRun reference = run(op, inputs, at::kDouble);
    check_close(kOutputs[output], found.outputs[0], reference.outputs[0], kBf16Product);
    for (size_t i = 1; i < inputs.size(); ++i) {
      check_close("d" + kInputs[i], found.gradients[i], reference.gradients[i], kBf16Product);
    }
  }
}

TEST_CASE("gated_scan in bf16 gives the same bits every time", "[gated_scan]") {
  for (const Gate gate : {Gate::kPerChannel, Gate::kFixedPerHead}) {
    const Case c{{100, 65, 30}, 4, 2, 2, 4, 64, 64, gate};
    check_repeatable(gated_scan_of(c), inputs_of(c), at::kBFloat16);
  }
}

TEST_CASE("gated_scan in bf16 reads any memory layout", "[gated_scan]") {
  const Case c{{100, 30}, 4, 2, 2, 2, 64, 64};
  std::vector<at::Tensor> x, strided;
  for (const at::Tensor& input : inputs_of(c)) x.push_back(input.to(at::kBFloat16));
  x[3] = x[3].to(at::kFloat);
  for (const at::Tensor& input : x) strided.push_back(non_contiguous(input));
  // q, k and v side by side, as one projection gives them.
  const at::Tensor packed = at::cat({x[0].flatten(1), x[1].flatten(1), x[2].flatten(1)}, 1);
  const auto part = [&](int64_t first, int64_t heads) {
    return packed.narrow(1, first * 64, heads * 64).view({130, heads, 64});
  };
  const auto expected = gated_scan_of(c)(x);
  check_bitwise("out", gated_scan_of(c)(strided)[0], expected[0]);
  check_bitwise("state", gated_scan_of(c)(strided)[1], expected[1]);
  check_bitwise("out", gated_scan_of(c)({part(0, 4), part(4, 2), part(6, 2), x[3], x[4]})[0],
                expected[0]);
}

TEST_CASE("a packed document of gated_scan gives the same bits wherever it lies",
          "[gated_scan][packed]") {
  if (test_device().is_cpu()) return;  // whose products are cut by the size of the batch
  const Case packed{{33, 150, 70}, 4, 2, 2, 2, 64, 64}, alone{{150}, 4, 2, 2, 2, 64, 64};
  const auto all = inputs_of(packed);
  const auto run = [](const Case& c, const std::vector<at::Tensor>& inputs, int64_t first) {
    std::vector<at::Tensor> leaves;
    for (const at::Tensor& input : inputs) {
      leaves.push_back(input.to(at::kBFloat16).clone().requires_grad_());
    }
    std::vector<at::Tensor> results = {gated_scan_of(c)(leaves)[0]};
    const at::Tensor upstream =
        random_tensor({253, c.H, c.V}, 9).to(at::kBFloat16).slice(0, 33 - first);
    const auto gradients =
        torch::autograd::grad({results[0]}, {leaves[0], leaves[1], leaves[2], leaves[3]},
                              {upstream.slice(0, 0, results[0].size(0)).contiguous()});
    results.insert(results.end(), gradients.begin(), gradients.end());
    for (at::Tensor& result : results) result = result.slice(0, first, first + 150).contiguous();
    return results;
  };
  std::vector<at::Tensor> own;
  for (size_t i = 0; i < 4; ++i) own.push_back(all[i].slice(0, 33, 183));
  own.push_back(all[4].slice(0, 1, 2));
  const auto inside = run(packed, all, 33), outside = run(alone, own, 0);
  check_bitwise("out", inside[0], outside[0]);
  for (size_t i = 1; i < inside.size(); ++i) {
    check_bitwise("d" + kInputs[i - 1], inside[i], outside[i]);
  }
}

}  // namespace
}  // namespace tigon::testing
