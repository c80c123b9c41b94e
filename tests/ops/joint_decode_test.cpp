#include "ops/joint_decode/joint_decode.h"

#include <ATen/ATen.h>

#include <cmath>

#include "ops/decode_case.h"
#include "ops/joint_decode/joint_decode_call.h"

namespace tigon::testing::decode {
namespace {

constexpr int64_t kHeads = 4, kKvHeads = 2, kSize = 8;

/// second_order_numbers 0: softmax features.
JointAttentionParameters random_parameters(int64_t H, int64_t L, int64_t D, at::ScalarType type,
                                           int64_t second_order_numbers = 0) {
  const bool second_order = second_order_numbers > 0;
  const int64_t R = second_order ? second_order_numbers : D;
  const auto draw = [&](at::IntArrayRef shape, uint64_t seed) {
    return random_tensor(shape, seed).to(wide_type(type));
  };
  const double scale = std::sqrt(static_cast<double>(D));
  return {draw({H, D, R}, 11) / scale, draw({H, R}, 12), draw({L, D, R}, 13) / scale,
          draw({L, R}, 14),
          // decay times around their bound
          2 + draw({L, joint_feature_channels(R, second_order)}, 15), second_order};
}

JointDecodeCall random_call(const Step& step, at::ScalarType type,
                            int64_t second_order_numbers = 0) {
  const int64_t S = step.count(), H = step.heads, L = step.kv_heads, D = step.head_dim;
  const auto draw = [&](at::IntArrayRef shape, uint64_t seed) {
    return random_tensor(shape, seed).to(wide_type(type));
  };
  const JointAttentionParameters parameters =
      random_parameters(H, L, D, type, second_order_numbers);
  return {.tokens = step.tokens(type),
          .logits = {4 * draw({S, L}, 16), draw({S, H}, 17)},  // on both sides of the clip
          .parameters = parameters,
          .state = step.state(type, parameters.log_tau.size(1), D + 1),
          .ring_log_importance = 4 * draw({step.slot_count(), step.window_keys, L}, 18)};
}

at::Tensor call_op(const JointDecodeCall& x) {
  return joint_decode(x.tokens, x.logits, x.parameters, x.state, x.ring_log_importance);
}

TEST_CASE("joint_decode token by token equals joint_attention of the whole", "[joint_decode]") {
  const int64_t T = 23, numbers = GENERATE(0, 3);
  const std::vector<int64_t> slots = {3, 0, 4};
  const Segments segments = Segments::from_lengths({T, T, T}, test_device());
  const at::Tensor frequencies = inverse_frequencies(kSize), all = positions(segments);
  for (const at::ScalarType type : {at::kDouble, at::kFloat}) {
    const double tolerance = type == at::kDouble ? kExactMath : kFloat32Op;
    const auto draw = [&](at::IntArrayRef shape, uint64_t seed) {
      return random_tensor(shape, seed, at::kDouble).to(type);
    };
    const JointAttentionParameters parameters =
        random_parameters(kHeads, kKvHeads, kSize, type, numbers);
    const JointAttentionInputs x{draw({3 * T, kHeads, kSize}, 1),
                                 draw({3 * T, kKvHeads, kSize}, 2),
                                 draw({3 * T, kKvHeads, kSize}, 3),
                                 all,
                                 frequencies,
                                 4 * draw({3 * T, kKvHeads}, 5),
                                 draw({3 * T, kHeads}, 6)};
    for (const int64_t window_keys : {1, 4, 16, 40}) {
      INFO("window_keys " << window_keys);
      const at::Tensor ring = at::zeros({5, window_keys, kKvHeads, kSize}, x.q.options());
      const at::Tensor importances = at::zeros({5, window_keys, kKvHeads}, x.q.options());
      const DecodeState state{ring, ring.clone(),
                              draw({5, kKvHeads, parameters.log_tau.size(1), kSize + 1}, 4).abs()};
      const at::Tensor untouched = state.matrices[1].clone();
      const auto whole = joint_attention(x, parameters, segments, segments, {window_keys, 1.25},
                                         state.matrices.index_select(0, indices(slots)));
      const at::Tensor found = at::empty_like(x.q);
      for (const Turn& turn : staggered_turns(T, slots)) {
        const at::Tensor rows = indices(turn.rows);
        const auto own = [&](const at::Tensor& y) { return y.index_select(0, rows); };
        const at::Tensor out = joint_decode(
            {own(x.q), own(x.k), own(x.v), indices(turn.positions), frequencies, 1.25},
            {own(x.log_importance), own(x.log_mix)}, parameters,
            {state.ring_keys, state.ring_values, state.matrices, turn.slots}, importances);
        found.index_copy_(0, rows, out);
      }
      check_close("out", found, whole.out, tolerance);
      check_close("matrices", state.matrices.index_select(0, indices(slots)), whole.state,
                  tolerance);
      check_bitwise("matrices of another slot", state.matrices[1], untouched);
    }
  }
}

TEST_CASE("joint_decode steps against the definition in float64", "[joint_decode]") {
  const int64_t numbers =
      GENERATE(0, 5, 6, 14);  // of 5 numbers 21 channels, for which no kernel is
  for (const Step& step : steps()) {
    INFO("second order of " << numbers << " numbers");
    const int64_t rows = joint_feature_channels(numbers > 0 ? numbers : step.head_dim, numbers > 0);
    check_step(step, rows, step.head_dim + 1, [&](at::ScalarType type, bool use_plain) {
      const JointDecodeCall call = random_call(step, type, numbers);
      // Of second order Z may be 0 or below; what belongs to the channel 1 keeps it above.
      if (numbers > 0) call.state.matrices.select(2, 0).select(2, step.head_dim).fill_(200);
      const at::Tensor before = call.ring_log_importance.clone();
      const at::Tensor out = use_plain ? joint_decode_plain(call) : call_op(call);
      check_ring("ring_log_importance", step, call.ring_log_importance, before,
                 call.logits.log_importance);
      return StepRun{out, call.state};
    });
  }
}

TEST_CASE("joint_decode with matrices in bfloat16", "[joint_decode]") {
  const int64_t numbers = GENERATE(0, 5);
  for (const Step& step : steps()) {
    const int64_t rows = joint_feature_channels(numbers > 0 ? numbers : step.head_dim, numbers > 0);
    check_rounded_matrices(step, rows, step.head_dim + 1,
                           [&](const DecodeState& state, at::ScalarType type) {
                             JointDecodeCall call = random_call(step, type, numbers);
                             call.state = state;
                             return call_op(call);
                           });
  }
}

TEST_CASE("joint_decode is served by its kernels on a GPU", "[joint_decode]") {
  check_served_by_kernels(
      [](const Step& step, at::ScalarType type,
         at::ScalarType matrix_type) -> std::function<at::Tensor()> {
        JointDecodeCall call = random_call(step, type);
        call.state.matrices = call.state.matrices.to(matrix_type);
        return [=] { return call_op(call); };
      },
      [](const Step& step) {
        const int64_t heads = step.heads + step.kv_heads;
        return step.count() * (heads * step.head_dim + step.kv_heads) * int64_t{sizeof(float)};
      });
}

TEST_CASE("joint_decode holds at the extremes", "[joint_decode]") {
  const Step step{4, 2, 64, 16, {40, 3}};
  for (const double extreme : {-300.0, -50.0, 50.0, 300.0}) {
    INFO("extreme " << extreme);
    const auto run = [&](at::ScalarType type, int changed) {
      JointDecodeCall call = random_call(step, type);
      at::Tensor inputs[] = {call.logits.log_mix, call.ring_log_importance, call.parameters.log_tau,
                             call.parameters.b_q};
      inputs[changed].fill_(extreme);
      const at::Tensor out = call_op(call);
      return StepRun{out, call.state};
    };
    for (int changed = 0; changed < 4; ++changed) {
      INFO("input " << changed);
      const StepRun found = run(at::kFloat, changed), exact = run(at::kDouble, changed);
      check_close("out", found.out, exact.out, kFloat32Op);
      check_close("matrices", found.state.matrices, exact.state.matrices, kFloat32Op);
    }
  }
  JointDecodeCall empty = random_call(step, at::kFloat);  // nothing has left: the window alone
  empty.tokens.positions = indices({15, 3});
  empty.state.matrices.zero_();
  const at::Tensor near = attend_ring(empty.tokens, step.state(at::kFloat, 128, 65),
                                      NewestRows(empty.tokens, empty.state))
                              .out;
  check_close("out", call_op(empty), near, kFloat32Op);
}

TEST_CASE("joint_decode refuses arguments that do not fit", "[joint_decode]") {
  const Step step{4, 2, 8, 16, {40, 3}};
  const auto call = [&](const std::function<void(JointDecodeCall&)>& change) {
    return [=] {
      JointDecodeCall changed = random_call(step, at::kFloat);
      change(changed);
      call_op(changed);
    };
  };
  const auto like = [](at::IntArrayRef shape) { return random_tensor(shape, 1); };
  using C = JointDecodeCall&;
  check_refused(call([&](C x) {
                  x.state.matrices = like({2, 2, 8, 9});
                }),
                "[joint_decode] matrices: expected shape [2, 2, 16, 9]");
  check_refused(
      [&] {
        JointDecodeCall second_order = random_call(step, at::kFloat, 3);
        second_order.state.matrices = like({2, 2, 16, 9});
        call_op(second_order);
      },
      "[joint_decode] matrices: expected shape [2, 2, 10, 9]");
  check_refused(call([&](C x) {
                  x.parameters.w_q = like({2, 8, 8});
                }),
                "[joint_decode] w_q: expected shape [4, 8, 8]");
  check_refused(call([&](C x) { x.parameters.b_q = like({4, 7}); }), "b_q: expected shape [4, 8]");
  check_refused(call([&](C x) {
                  x.parameters.w_k = like({4, 8, 8});
                }),
                "w_k: expected shape [2, 8, 8]");
  check_refused(call([&](C x) { x.parameters.b_k = like({4, 8}); }), "b_k: expected shape [2, 8]");
  check_refused(call([&](C x) {
                  x.parameters.log_tau = like({2, 8});
                }),
                "log_tau: expected shape [2, 16]");
  check_refused(call([&](C x) {
                  x.logits.log_importance = like({2, 4});
                }),
                "log_importance: expected shape [2, 2]");
  check_refused(call([&](C x) {
                  x.logits.log_mix = like({2, 2});
                }),
                "log_mix: expected shape [2, 4]");
  check_refused(call([&](C x) {
                  x.logits.log_mix = like({2, 4}).to(at::kDouble);
                }),
                "log_mix: expected float64 exactly if q (Float) is");
  check_refused(call([&](C x) {
                  x.ring_log_importance = like({2, 15, 2});
                }),
                "ring_log_importance: expected shape [2, 16, 2]");
  check_refused(call([&](C x) { x.ring_log_importance = x.ring_log_importance.to(at::kHalf); }),
                "ring_log_importance: expected dtype Float");
  check_refused(call([&](C x) { x.state.matrices = x.state.matrices.to(at::kHalf); }),
                "[joint_decode] matrices: expected dtype Float or BFloat16, found Half");
  check_refused(
      [&] {
        JointDecodeCall wide = random_call(step, at::kDouble);
        wide.state.matrices = wide.state.matrices.to(at::kBFloat16);
        call_op(wide);
      },
      "[joint_decode] matrices: expected dtype Double, found BFloat16");
  check_refused(call([&](C x) { x.parameters.w_q.requires_grad_(true); }),
                "[joint_decode] expected inputs that require no gradient");
}

}  // namespace
}  // namespace tigon::testing::decode
