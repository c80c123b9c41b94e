// joint_attention in bf16 with the head sizes and windows that have GPU kernels. On the CPU the
// same cases judge the plain definition.
#include <ATen/ATen.h>

#include "ops/joint_attention/joint_attention_call.h"
#include "ops/joint_attention_case.h"
#include "ops/op_run.h"
#include "ops/rope_inputs.h"

namespace tigon::testing::joint {
namespace {

// The op's differentiable tensors but the initial state, which has no kernels.
constexpr size_t kTrained = kState;
const std::vector<std::string> kNames(kInputs.begin(), kInputs.begin() + kTrained);

struct Bf16Case {
  std::vector<int64_t> lengths;
  int64_t heads, kv_heads, head_dim;
  int64_t window_keys = 64;
  double mix_shift = 0, importance_scale = 3, tau_shift = 4;
  int64_t second_order_numbers = 0;  // 0: softmax features

  int64_t mapped_numbers() const {
    return second_order_numbers > 0 ? second_order_numbers : head_dim;
  }
  int64_t channels() const {
    return joint_feature_channels(mapped_numbers(), second_order_numbers > 0);
  }
};

Segments segments_of(const Bf16Case& c) {
  return Segments::from_lengths(c.lengths, test_device());
}

/// bf16 values in float64.
std::vector<at::Tensor> inputs_of(const Bf16Case& c) {
  const int64_t N = segments_of(c).total, H = c.heads, L = c.kv_heads, D = c.head_dim;
  const int64_t R = c.mapped_numbers();
  const auto draw = [](at::IntArrayRef shape, uint64_t seed) {
    return random_tensor(shape, seed, at::kDouble);
  };
  // Of second order x·y is about 1, as calibrated maps make it.
  const double size = c.second_order_numbers > 0 ? 0.35 : 1;
  const double map_scale = size / std::sqrt(static_cast<double>(D));
  std::vector<at::Tensor> x = {draw({N, H, D}, 1),
                               draw({N, L, D}, 2),
                               draw({N, L, D}, 3),
                               draw({H, D, R}, 4) * map_scale,
                               draw({H, R}, 5) * size,
                               draw({L, D, R}, 6) * map_scale,
                               draw({L, R}, 7) * size,
                               draw({N, L}, 8) * c.importance_scale,
                               draw({N, H}, 9) + c.mix_shift,
                               draw({L, c.channels()}, 10) + c.tau_shift};
  for (at::Tensor& tensor : x) tensor = rounded_to_bf16(tensor);
  return x;
}

JointAttentionResult call(const Bf16Case& c, const std::vector<at::Tensor>& x,
                          const std::optional<at::Tensor>& initial_state) {
  const Segments segments = segments_of(c);
  return joint_attention({.q = x[kQ],
                          .k = x[kK],
                          .v = x[kV],
                          .key_positions = positions(segments),
                          .inverse_frequencies = inverse_frequencies(c.head_dim),
                          .log_importance = x[kLogImportance],
                          .log_mix = x[kLogMix]},
                         {x[kWQ], x[kBQ], x[kWK], x[kBK], x[kLogTau], c.second_order_numbers > 0},
                         segments, segments, {.window_keys = c.window_keys}, initial_state);
}

/// `out` alone, whose gradients the kernels find.
OpFunction op(const Bf16Case& c) {
  return [c](const std::vector<at::Tensor>& x) -> std::vector<at::Tensor> {
    return {call(c, x, {}).out};
  };
}

/// `out` and the state.
OpFunction op_with_state(const Bf16Case& c) {
  return [c](const std::vector<at::Tensor>& x) -> std::vector<at::Tensor> {
    const auto [out, state] = call(c, x, {});
    return {out, state};
  };
}

/// With an initial state of zeros, which has no kernels.
OpFunction plain(const Bf16Case& c) {
  return [c](const std::vector<at::Tensor>& x) -> std::vector<at::Tensor> {
    const int64_t S = segments_of(c).count(), D = c.head_dim;
    const at::Tensor zeros = at::zeros({S, c.kv_heads, 2 * D, D + 1}, x[kLogTau].options());
    return {call(c, x, zeros).out};
  };
}

void check_bf16(const Bf16Case& c) {
  INFO("lengths " << at::IntArrayRef(c.lengths) << ", " << c.heads << "/" << c.kv_heads
                  << " heads of " << c.head_dim << ", window_keys " << c.window_keys);
  const auto inputs = inputs_of(c);
  const OpRun found = run_op(op(c), inputs, at::kBFloat16);
  const OpRun same = run_op(plain(c), inputs, at::kBFloat16);
  const OpRun reference = run_op(plain(c), inputs, at::kDouble);
  check_low_precision("out", found.outputs[0], same.outputs[0], reference.outputs[0]);
  for (size_t i = 0; i < kTrained; ++i) {
    check_low_precision("d" + kNames[i], found.gradients[i], same.gradients[i],
                        reference.gradients[i]);
  }
}

void check_state(const Bf16Case& c) {
  const auto inputs = inputs_of(c);
  std::vector<at::Tensor> narrow;
  for (const at::Tensor& x : inputs) narrow.push_back(x.to(at::kBFloat16));
  const at::Tensor state = call(c, narrow, {}).state;
  CHECK(state.scalar_type() == at::kFloat);
  check_close("state", state, call(c, inputs, {}).state, kBf16Product);
}

TEST_CASE("joint_attention in bf16, heads of 64, 96 and 128, odd lengths", "[joint_attention]") {
  check_bf16({{1, 63, 64, 65, 1, 129}, 4, 2, 64});
  check_bf16({{130, 3, 200}, 3, 3, 96});
  check_bf16({{65, 1, 256}, 6, 2, 128});
  check_bf16({{321}, 7, 1, 64});
  check_bf16({{1000, 2050}, 2, 1, 64});
}

TEST_CASE("joint_attention in bf16 with other windows", "[joint_attention]") {
  check_bf16({{300, 129, 128, 64}, 4, 2, 64, 128});
  check_bf16({{450, 1, 193}, 3, 1, 96, 192});
  check_bf16({{700, 20}, 2, 1, 128, 512});
  check_bf16({{200, 70}, 4, 2, 64, int64_t{1} << 40});
  check_bf16({{200, 70}, 4, 2, 64, 100});  // plain
  check_bf16({{100, 1}, 4, 2, 64, 1});     // plain
}

TEST_CASE("joint_attention in bf16 with other weights and decays", "[joint_attention]") {
  check_bf16({{150, 190}, 4, 2, 64, 64, 8});
  check_bf16({{150, 190}, 4, 2, 64, 64, 200});
  check_bf16({{150, 190}, 4, 2, 64, 64, -200});
  check_bf16({{150, 190}, 2, 1, 128, 64, 0, 20});
  check_bf16({{150, 190}, 4, 2, 64, 64, 0, 3, -5});  // every decay at its bound
  check_bf16({{150, 190}, 4, 2, 64, 64, 0, 3, 12});  // next to none
}

// Decays are so slow that no channel's leaves the others alone: the mass stays far above 0.
TEST_CASE("joint_attention of second order in bf16", "[joint_attention]") {
  for (const Bf16Case& c : {Bf16Case{{1, 63, 64, 65, 1, 129}, 4, 2, 64, 64, 0, 1, 12, 14},
                            Bf16Case{{130, 3, 200}, 3, 3, 96, 5, 1, 1, 12, 9},
                            Bf16Case{{300, 20}, 4, 1, 128, 100, 0, 1, 12, 14},
                            Bf16Case{{100}, 2, 1, 64, 16, 0, 1, 12, 20}}) {
    INFO("lengths " << at::IntArrayRef(c.lengths) << ", heads of " << c.head_dim);
    const auto inputs = inputs_of(c);
    const OpRun found = run_op(op_with_state(c), inputs, at::kBFloat16);
    const OpRun reference = run_op(op_with_state(c), inputs, at::kDouble);
    CHECK(found.outputs[0].scalar_type() == at::kBFloat16);
    CHECK(found.outputs[1].scalar_type() == at::kFloat);
    check_close("out", found.outputs[0], reference.outputs[0], kBf16Product);
    check_close("state", found.outputs[1], reference.outputs[1], kBf16Product);
    for (size_t i = 0; i < kTrained; ++i) {
      // Those of the maps are sums over all tokens, whose terms cancel.
      const bool is_of_maps = i >= kWQ && i <= kBK;
      check_close("d" + kNames[i], found.gradients[i], reference.gradients[i],
                  (is_of_maps ? 2 : 1) * kBf16Product);
    }
  }
}

TEST_CASE("joint_attention of second order in bf16 goes on from a state", "[joint_attention]") {
  const int64_t T = 210, first = 90;
  const Bf16Case c{{T}, 4, 2, 64, 16, 0, 1, 12, 14};
  const JointAttentionOptions options{.window_keys = c.window_keys};
  const auto inputs = inputs_of(c);
  const std::vector<at::Tensor> whole = op_with_state(c)(inputs);
  std::vector<at::Tensor> x;
  for (const at::Tensor& input : inputs) x.push_back(input.to(at::kBFloat16));
  const JointAttentionParameters maps{x[kWQ], x[kBQ], x[kWK], x[kBK], x[kLogTau], true};
  const at::Tensor all = positions(segments_of(c));
  // Queries from `from` on, keys from `prefix` before them.
  const auto part = [&](int64_t from, int64_t to, int64_t prefix,
                        const std::optional<at::Tensor>& state) {
    const auto queries = [&](Input i) { return x[i].slice(0, from, to); };
    const auto keys = [&](Input i) { return x[i].slice(0, from - prefix, to); };
    return joint_attention({.q = queries(kQ),
                            .k = keys(kK),
                            .v = keys(kV),
                            .key_positions = all.slice(0, from - prefix, to),
                            .inverse_frequencies = inverse_frequencies(c.head_dim),
                            .log_importance = keys(kLogImportance),
                            .log_mix = queries(kLogMix)},
                           maps, Segments::from_lengths({to - from}, test_device()),
                           Segments::from_lengths({to - from + prefix}, test_device()), options,
                           state);
  };
  const auto before = part(0, first, 0, std::nullopt);
  const auto after = part(first, T, c.window_keys, before.state);
  check_close("out", at::cat({before.out, after.out}), whole[0], kBf16Product);
  check_close("state", after.state, whole[1], kBf16Product);
}

TEST_CASE("joint_attention in bf16 returns the state", "[joint_attention]") {
  check_state({{1, 63, 64, 65, 128, 129, 250}, 4, 2, 64});
  check_state({{100, 300, 193}, 3, 1, 96, 128});
  check_state({{200, 64}, 2, 2, 128});
}

TEST_CASE("joint_attention in bf16 takes gradients of the state", "[joint_attention]") {
  const Bf16Case c{{100, 150, 20}, 4, 2, 64};
  const auto with_state = [&](bool is_plain) -> OpFunction {
    return [=](const std::vector<at::Tensor>& x) -> std::vector<at::Tensor> {
      const int64_t S = segments_of(c).count();
      const at::Tensor zeros = at::zeros({S, 2, 128, 65}, x[kLogTau].options());
      const auto [out, state] =
          call(c, x, is_plain ? std::optional<at::Tensor>(zeros) : std::nullopt);
      return {out, state};
    };
  };
  const auto inputs = inputs_of(c);
  const OpRun found = run_op(with_state(false), inputs, at::kBFloat16);
  const OpRun same = run_op(with_state(true), inputs, at::kBFloat16);
  for (size_t i = 0; i < kTrained; ++i) {
    check_bitwise("d" + kNames[i], found.gradients[i], same.gradients[i]);
  }
}

TEST_CASE("joint_attention in bf16 gives the same bits every time", "[joint_attention]") {
  const Bf16Case c{{200, 65, 30}, 4, 2, 64};
  check_repeatable(op(c), inputs_of(c), at::kBFloat16);
}

TEST_CASE("joint_attention in bf16 trains one input at a time", "[joint_attention]") {
  const Bf16Case c{{150, 30}, 4, 2, 64};
  const auto inputs = inputs_of(c);
  const OpRun all = run_op(op(c), inputs, at::kBFloat16);
  for (size_t trained = 0; trained < kTrained; ++trained) {
    std::vector<at::Tensor> leaves;
    for (const at::Tensor& input : inputs) leaves.push_back(input.to(at::kBFloat16));
    leaves[trained].requires_grad_();
    const at::Tensor out = op(c)(leaves)[0];
    const at::Tensor gradient =
        torch::autograd::grad({out}, {leaves[trained]}, {upstream_gradient(out, 0)})[0];
    check_bitwise("d" + kNames[trained], gradient, all.gradients[trained]);
  }
}

TEST_CASE("joint_attention gives a packed document the same bits wherever it lies",
          "[joint_attention][packed]") {
  const Bf16Case packed{{33, 150, 70}, 4, 2, 64}, alone{{150}, 4, 2, 64};
  const auto all = inputs_of(packed);
  std::vector<at::Tensor> own = all;
  const std::vector<size_t> by_token = {kQ, kK, kV, kLogImportance, kLogMix};
  for (const size_t i : by_token) own[i] = all[i].slice(0, 33, 183);
  const auto run = [&](const Bf16Case& c, const std::vector<at::Tensor>& inputs, int64_t first) {
    std::vector<at::Tensor> leaves, trained;
    for (const at::Tensor& input : inputs) {
      leaves.push_back(input.to(at::kBFloat16).clone().requires_grad_());
    }
    for (const size_t i : by_token) trained.push_back(leaves[i]);
    std::vector<at::Tensor> results = {op(c)(leaves)[0]};
    const at::Tensor upstream =
        random_tensor({253, c.heads, c.head_dim}, 9).to(at::kBFloat16).slice(0, 33 - first);
    const auto gradients = torch::autograd::grad(
        {results[0]}, trained, {upstream.slice(0, 0, results[0].size(0)).contiguous()});
    results.insert(results.end(), gradients.begin(), gradients.end());
    for (at::Tensor& result : results) result = result.slice(0, first, first + 150).contiguous();
    return results;
  };
  const auto inside = run(packed, all, 33), outside = run(alone, own, 0);
  for (size_t i = 0; i < inside.size(); ++i) {
    const std::string name = i == 0 ? "out" : "d" + kNames[by_token[i - 1]];
    if (test_device().is_cpu()) {  // whose products are cut by the size of the batch
      check_close(name, inside[i], outside[i], kBf16Product);
    } else {
      check_bitwise(name, inside[i], outside[i]);
    }
  }
}

TEST_CASE("joint_attention in bf16 reads views of one projection", "[joint_attention]") {
  const Bf16Case c{{100, 30}, 4, 2, 64};
  std::vector<at::Tensor> x;
  for (const at::Tensor& input : inputs_of(c)) x.push_back(input.to(at::kBFloat16));
  const at::Tensor expected = op(c)(x)[0];
  const at::Tensor packed = at::cat({x[kQ].flatten(1), x[kK].flatten(1), x[kV].flatten(1)}, 1);
  const auto part = [&](int64_t first, int64_t heads) {
    return packed.narrow(1, first * 64, heads * 64).view({130, heads, 64});
  };
  x[kQ] = part(0, 4);
  x[kK] = part(4, 2);
  x[kV] = part(6, 2);
  check_bitwise("out", op(c)(x)[0], expected);
}

TEST_CASE("joint_attention in bf16 refuses double backward", "[joint_attention]") {
  const Bf16Case c{{100}, 4, 2, 64};
  std::vector<at::Tensor> x;
  for (const at::Tensor& input : inputs_of(c)) x.push_back(input.to(at::kBFloat16));
  x[kV].requires_grad_();
  const at::Tensor out = op(c)(x)[0];
  const auto backward = [&] {
    torch::autograd::grad({out}, {x[kV]}, {at::ones_like(out)}, /*retain_graph=*/true,
                          /*create_graph=*/true);
  };
  check_refused(backward, "double backward");
}

}  // namespace
}  // namespace tigon::testing::joint
