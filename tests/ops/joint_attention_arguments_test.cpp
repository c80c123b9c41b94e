// What joint_attention takes and refuses, and the memory it needs.
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/autograd.h>

#include "ops/joint_attention_case.h"
#include "support/allocations.h"
#include "support/refusal.h"

namespace tigon::testing::joint {
namespace {

TEST_CASE("joint_attention gives frozen inputs no gradient", "[joint_attention]") {
  const Case c{{9, 2}};
  check_frozen_inputs(op(c), random_inputs(c), kInputs);
}

TEST_CASE("joint_attention takes inputs of any memory layout and leaves them alone",
          "[joint_attention]") {
  const Case c{{20, 3}, {3, 1}};
  const auto x = random_inputs(c);
  std::vector<at::Tensor> strided, before;
  for (const at::Tensor& input : x) strided.push_back(non_contiguous(input));
  for (const at::Tensor& input : x) before.push_back(input.clone());
  const auto expected = op(c)(x), found = op(c)(strided);
  check_close("out", found[0], expected[0], kExactMath);
  check_close("state", found[1], expected[1], kExactMath);
  for (size_t i = 0; i < x.size(); ++i) check_bitwise(kInputs[i], x[i], before[i]);
}

TEST_CASE("joint_attention never holds a state per token", "[joint_attention]") {
  const int64_t T = 1024, H = 2, D = 64;
  const auto random = [](at::IntArrayRef shape, uint64_t seed) {
    return random_tensor(shape, seed).requires_grad_(true);
  };
  const std::vector<at::Tensor> x = {random({T, H, D}, 1),
                                     random({T, H, D}, 2),
                                     random({T, H, D}, 3),
                                     random({H, D, D}, 4),
                                     random({H, D}, 5),
                                     random({H, D, D}, 6),
                                     random({H, D}, 7),
                                     random({T, H}, 8),
                                     random({T, H}, 9),
                                     random({H, 2 * D}, 10),
                                     random({1, H, 2 * D, D + 1}, 11)};
  const Case c{{T}, {}, {.window_keys = 64}};
  const int64_t state_bytes = T * H * 2 * D * (D + 1) * static_cast<int64_t>(sizeof(float));
  AllocationRecorder allocations;
  const auto outputs = op(c)(x);
  torch::autograd::grad({outputs[0].sum()}, x);
  CHECK(allocations.largest() <= state_bytes / 32);
  CHECK(allocations.peak() < state_bytes);
}

TEST_CASE("joint_attention called by name reads the lengths from cu_seqlens", "[joint_attention]") {
  const Case c{{12, 0, 5}};
  const auto x = random_inputs(c);
  const auto inputs = c.inputs(x);
  torch::jit::Stack stack;  // as Python calls it
  for (const at::Tensor& tensor :
       {x[kQ], x[kK], x[kV], inputs.key_positions, inputs.inverse_frequencies, x[kWQ], x[kBQ],
        x[kWK], x[kBK], x[kLogImportance], x[kLogMix], x[kLogTau], c.queries().cu_seqlens}) {
    stack.emplace_back(tensor);
  }
  stack.emplace_back(c.options.window_keys);
  stack.emplace_back(x[kState]);
  stack.emplace_back(1.0);                           // rope_scale
  for (int i = 0; i < 3; ++i) stack.emplace_back();  // key_cu_seqlens, lengths, key_lengths
  stack.emplace_back(false);                         // second_order
  c10::Dispatcher::singleton().findSchemaOrThrow("tigon::joint_attention", "").callBoxed(&stack);
  const auto expected = op(c)(x);
  check_bitwise("out", stack[0].toTensor(), expected[0]);
  check_bitwise("state", stack[1].toTensor(), expected[1]);
}

TEST_CASE("joint_attention refuses arguments that do not fit", "[joint_attention]") {
  const Case c{{6, 4}};
  const auto x = random_inputs(c);
  const auto call = [&](size_t changed, const at::Tensor& to) {
    auto y = x;
    y[changed] = to;
    return [=] { op(c)(y); };
  };
  const auto like = [](at::IntArrayRef shape) { return random_tensor(shape, 1, at::kDouble); };
  const std::string name = "[joint_attention] ";
  check_refused(call(kQ, like({10, 36})), name + "q: expected shape [any, any, any]");
  check_refused(call(kQ, x[kQ].to(at::kLong)), name + "q: expected a floating-point");
  check_refused(call(kK, like({10, 2, 4})), name + "k: expected shape [any, any, 6]");
  check_refused(call(kK, x[kK].to(at::kFloat)), name + "k: expected dtype Double");
  check_refused(call(kV, like({9, 2, 6})), name + "v: expected shape [10, 2, 6]");
  check_refused(call(kV, x[kV].to(at::kFloat)), name + "v: expected dtype Double");
  check_refused(call(kWQ, like({2, 6, 6})), name + "w_q: expected shape [6, 6, 6]");
  check_refused(call(kBQ, like({6, 12})), name + "b_q: expected shape [6, 6]");
  check_refused(call(kWK, like({6, 6, 6})), name + "w_k: expected shape [2, 6, 6]");
  check_refused(call(kBK, like({6, 6})), name + "b_k: expected shape [2, 6]");
  check_refused(call(kLogImportance, like({10, 6})),
                name + "log_importance: expected shape [10, 2]");
  check_refused(call(kLogMix, like({10, 2})), name + "log_mix: expected shape [10, 6]");
  check_refused(call(kLogTau, like({2, 6})), name + "log_tau: expected shape [2, 12]");
  for (const size_t i : {kWQ, kBQ, kWK, kBK, kLogImportance, kLogMix, kLogTau}) {
    check_refused(call(i, x[i].to(at::kFloat)),
                  name + kInputs[i] + ": expected float64 exactly if q (Double) is, found Float");
    check_refused(call(i, x[i].to(at::kLong)), name + kInputs[i] + ": expected a floating-point");
    check_refused(call(i, x[i].to(at::kMeta)), name + kInputs[i] + ": expected device");
  }
  check_refused(call(kState, like({2, 2, 12, 6})),
                "initial_state: expected shape [2, 2, 12, 7], found [2, 2, 12, 6]");
  const Case second_order{{6, 4}, {}, {}, 3};
  const auto call_second_order = [&](size_t changed, const at::Tensor& to) {
    auto y = random_inputs(second_order);
    y[changed] = to;
    return [=] { op(second_order)(y); };
  };
  check_refused(call_second_order(kWQ, like({6, 6})), name + "w_q: expected shape [6, 6, 6]");
  check_refused(call_second_order(kWK, like({2, 6, 4})), name + "w_k: expected shape [2, 6, 3]");
  check_refused(call_second_order(kBK, like({2, 6})), name + "b_k: expected shape [2, 3]");
  check_refused(call_second_order(kLogTau, like({2, 6})), name + "log_tau: expected shape [2, 10]");
  check_refused(
      [&] {
        op({{6, 4}, {}, {.window_keys = 0}})(x);
      },
      name + "window_keys: expected 1 or more, found 0");
  const auto with = [&](const auto& change, const Segments& queries, const Segments& keys) {
    return [=] {
      JointAttentionInputs inputs = c.inputs(x);
      change(inputs);
      joint_attention(inputs, c.parameters(x), queries, keys, c.options);
    };
  };
  check_refused(
      with([](auto& y) { y.key_positions = y.key_positions.slice(0, 1); }, c.queries(), c.keys()),
      name + "key_positions: expected shape [10], found [9]");
  check_refused(
      with([](auto& y) { y.key_positions = y.key_positions.to(at::kInt); }, c.queries(), c.keys()),
      "positions: expected dtype Long");
  check_refused(with([](auto& y) { y.inverse_frequencies = y.inverse_frequencies.slice(0, 1); },
                     c.queries(), c.keys()),
                "inverse_frequencies: expected shape [3], found [2]");
  const Segments fewer = Segments::from_lengths({5, 5}, test_device());
  check_refused(with([](auto&) {}, c.queries(), fewer), "at least as many keys as queries");
  const Segments shorter = Segments::from_lengths({6, 3}, test_device());
  check_refused(with([](auto&) {}, shorter, shorter), "expected the sum 10");
}

}  // namespace
}  // namespace tigon::testing::joint
