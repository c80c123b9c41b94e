#include "ops/liger_decode/liger_decode.h"

#include <ATen/ATen.h>

#include "ops/decode_case.h"
#include "ops/liger_attention/liger_attention.h"
#include "ops/liger_decode/liger_decode_call.h"

namespace tigon::testing::decode {
namespace {

constexpr int64_t kHeads = 4, kKvHeads = 2, kSize = 8;

StepRun run(const Step& step, at::ScalarType type, bool use_plain,
            const LigerDecodeOptions& options = {}) {
  const DecodeTokens tokens = step.tokens(type);
  const DecodeState state = step.state(type, step.head_dim, step.head_dim);
  const at::Tensor out = use_plain ? liger_decode_plain({tokens, state, options})
                                   : liger_decode(tokens, state, options);
  return {out, state};
}

TEST_CASE("liger_decode token by token equals liger_attention of the whole", "[liger_decode]") {
  const int64_t T = 23;
  const std::vector<int64_t> slots = {3, 0, 4};
  const Segments segments = Segments::from_lengths({T, T, T}, test_device());
  const at::Tensor frequencies = inverse_frequencies(kSize), all = positions(segments);
  for (const at::ScalarType type : {at::kDouble, at::kFloat}) {
    const double tolerance = type == at::kDouble ? kExactMath : kFloat32Op;
    const auto draw = [&](at::IntArrayRef shape, uint64_t seed) {
      return random_tensor(shape, seed, at::kDouble).to(type);
    };
    const at::Tensor q = draw({3 * T, kHeads, kSize}, 1), k = draw({3 * T, kKvHeads, kSize}, 2),
                     v = draw({3 * T, kKvHeads, kSize}, 3);
    for (const int64_t window_keys : {1, 4, 16, 40}) {
      INFO("window_keys " << window_keys);
      const LigerAttentionOptions whole_options{window_keys, 4, 0.3, 1.25};
      const at::Tensor ring = at::zeros({5, window_keys, kKvHeads, kSize}, q.options());
      const DecodeState state{ring, ring.clone(), draw({5, kKvHeads, kSize, kSize}, 4)};
      const at::Tensor untouched = state.matrices[1].clone();
      const auto whole =
          liger_attention(q, k, v, all, frequencies, segments, segments, whole_options,
                          state.matrices.index_select(0, indices(slots)));
      const at::Tensor found = at::empty_like(q);
      for (const Turn& turn : staggered_turns(T, slots)) {
        const at::Tensor rows = indices(turn.rows);
        const auto own = [&](const at::Tensor& x) { return x.index_select(0, rows); };
        const at::Tensor out = liger_decode(
            {own(q), own(k), own(v), indices(turn.positions), frequencies, 1.25},
            {state.ring_keys, state.ring_values, state.matrices, turn.slots}, {4, 0.3});
        found.index_copy_(0, rows, out);
      }
      check_close("out", found, whole.out, tolerance);
      check_close("matrices", state.matrices.index_select(0, indices(slots)), whole.state,
                  tolerance);
      check_bitwise("matrices of another slot", state.matrices[1], untouched);
    }
  }
}

TEST_CASE("liger_decode steps against the definition in float64", "[liger_decode]") {
  for (const Step& step : steps()) {
    check_step(step, step.head_dim, step.head_dim,
               [&](at::ScalarType type, bool use_plain) { return run(step, type, use_plain); });
  }
  for (const LigerDecodeOptions& options :
       {LigerDecodeOptions{1, 0.25}, {0.05, 1}, {16, 0}}) {  // log-gates down to −60
    const Step step{8, 2, 64, 64, {3, 80}};
    check_step(step, 64, 64, [&](at::ScalarType type, bool use_plain) {
      return run(step, type, use_plain, options);
    });
  }
}

TEST_CASE("liger_decode with matrices in bfloat16", "[liger_decode]") {
  for (const Step& step : steps()) {
    check_rounded_matrices(step, step.head_dim, step.head_dim,
                           [&](const DecodeState& state, at::ScalarType type) {
                             return liger_decode(step.tokens(type), state, {});
                           });
  }
}

TEST_CASE("liger_decode is served by its kernel on a GPU", "[liger_decode]") {
  check_served_by_kernels(
      [](const Step& step, at::ScalarType type,
         at::ScalarType matrix_type) -> std::function<at::Tensor()> {
        const DecodeTokens tokens = step.tokens(type);
        DecodeState state = step.state(type, step.head_dim, step.head_dim);
        state.matrices = state.matrices.to(matrix_type);
        return [=] { return liger_decode(tokens, state, {}); };
      },
      [](const Step&) { return 0; });
}

TEST_CASE("liger_decode of a sequence is the same alone and in a batch", "[liger_decode]") {
  const Step all{8, 2, 64, 16, {40, 3, 9}};
  const StepRun together = run(all, at::kBFloat16, false);
  const DecodeTokens tokens = all.tokens(at::kBFloat16);
  const DecodeState state = all.state(at::kBFloat16, 64, 64);
  for (int64_t s = 0; s < 3; ++s) {
    const auto own = [&](const at::Tensor& x) { return x.narrow(0, s, 1).clone(); };
    const at::Tensor out =
        liger_decode({own(tokens.q), own(tokens.k), own(tokens.v), own(tokens.positions),
                      tokens.inverse_frequencies},
                     {own(state.ring_keys), own(state.ring_values), own(state.matrices)}, {});
    const at::Tensor expected = together.out.narrow(0, s, 1);
    if (test_device().is_cpu()) {  // whose products are cut by the size of the batch
      check_close("out", out, expected, kBf16Product);
    } else {
      check_bitwise("out", out, expected);
    }
  }
}

TEST_CASE("liger_decode reads views of one projection and states of any layout", "[liger_decode]") {
  const Step step{4, 2, 64, 16, {40, 3}};
  const StepRun expected = run(step, at::kBFloat16, false);
  DecodeTokens tokens = step.tokens(at::kBFloat16);
  const at::Tensor packed =
      at::cat({tokens.q.flatten(1), tokens.k.flatten(1), tokens.v.flatten(1)}, 1);
  const auto part = [&](int64_t first, int64_t heads) {
    return packed.narrow(1, first * 64, heads * 64).view({2, heads, 64});
  };
  tokens.q = part(0, 4);
  tokens.k = part(4, 2);
  tokens.v = part(6, 2);
  check_bitwise("out", liger_decode(tokens, step.state(at::kBFloat16, 64, 64), {}), expected.out);

  DecodeState state = step.state(at::kFloat, 64, 64);
  for (at::Tensor* x : {&state.ring_keys, &state.ring_values, &state.matrices}) {
    *x = non_contiguous(*x);
  }
  const StepRun exact = run(step, at::kDouble, true);
  check_close("out", liger_decode(step.tokens(at::kFloat), state, {}), exact.out, kFloat32Op);
  check_close("matrices", state.matrices, exact.state.matrices, kFloat32Op);
  check_ring("ring_keys", step, state.ring_keys.contiguous(),
             step.state(at::kFloat, 64, 64).ring_keys, step.tokens(at::kFloat).k);
}

TEST_CASE("liger_decode refuses arguments that do not fit", "[liger_decode]") {
  const Step step{4, 2, 8, 16, {40, 3}};
  const DecodeTokens tokens = step.tokens(at::kFloat);
  const DecodeState state = step.state(at::kFloat, 8, 8);
  const auto with_tokens = [&](at::Tensor DecodeTokens::*member, const at::Tensor& to) {
    DecodeTokens changed = tokens;
    changed.*member = to;
    return [=] { liger_decode(changed, state, {}); };
  };
  const auto with_state = [&](at::Tensor DecodeState::*member, const at::Tensor& to) {
    DecodeState changed = state;
    changed.*member = to;
    return [=] { liger_decode(tokens, changed, {}); };
  };
  const auto like = [](at::IntArrayRef shape) { return random_tensor(shape, 1); };
  using T = DecodeTokens;
  check_refused(with_tokens(&T::q, like({2, 32})), "[liger_decode] q: expected shape [any, any,");
  check_refused(with_tokens(&T::k, like({3, 2, 8})), "v: expected shape [3, 2, 8]");
  check_refused(with_tokens(&T::q, like({3, 4, 8})),
                "k: expected shape [3, 2, 8], found [2, 2, 8]");
  check_refused(with_tokens(&T::q, like({2, 3, 8})),
                "k: expected a number of heads that divides 3");
  check_refused(with_tokens(&T::k, tokens.k.to(at::kDouble)), "k: expected dtype Float");
  check_refused(with_tokens(&T::positions, indices({1})), "positions: expected shape [2]");
  check_refused(with_tokens(&T::positions, like({2})), "positions: expected dtype Long");
  check_refused(with_tokens(&T::inverse_frequencies, like({8})),
                "inverse_frequencies: expected shape [4]");
  using S = DecodeState;
  check_refused(with_state(&S::ring_keys, like({2, 0, 2, 8})), "ring_keys: expected 1 row or more");
  check_refused(with_state(&S::ring_values, like({2, 15, 2, 8})),
                "ring_values: expected shape [2, 16, 2, 8]");
  check_refused(with_state(&S::ring_values, state.ring_values.to(at::kHalf)),
                "ring_values: expected dtype Float");
  check_refused(with_state(&S::matrices, like({2, 2, 8, 9})),
                "matrices: expected shape [2, 2, 8, 8]");
  check_refused(with_state(&S::matrices, state.matrices.to(at::kHalf)),
                "matrices: expected dtype Float");
  const auto with_slots = [&](const at::Tensor& slots) {
    DecodeState changed = state;
    changed.slots = slots;
    return [=] { liger_decode(tokens, changed, {}); };
  };
  check_refused(with_slots(indices({0})), "slots: expected shape [2], found [1]");
  check_refused(with_slots(like({2})), "slots: expected dtype Long");
  if (test_device().is_cpu()) {  // a GPU ends the process's work
    check_refused(with_slots(indices({0, 2})), "slots: expected numbers from 0 to 1, found 2");
    check_refused(with_tokens(&T::positions, indices({-1, 2})),
                  "positions: expected numbers from 0");
  }
  const Step fewer{4, 2, 8, 16, {40}};
  check_refused([&] { liger_decode(fewer.tokens(at::kFloat), state, {}); },
                "[liger_decode] q: expected a token for each of the 2 slots");
  check_refused(
      [&] {
        liger_decode(tokens, state, {0, 0.5});
      },
      "[liger_decode] gate_normalizer: expected more than 0, found 0");
  check_refused(
      [&] {
        liger_decode(tokens, state, {16, 2});
      },
      "[liger_decode] mix: expected from 0 to 1, found 2");
  check_refused(with_tokens(&T::q, tokens.q.clone().requires_grad_(true)),
                "[liger_decode] expected inputs that require no gradient");
}

}  // namespace
}  // namespace tigon::testing::decode
