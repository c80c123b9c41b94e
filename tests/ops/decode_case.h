// What the tests of liger_decode and joint_decode share: sequences that come in one after the other
// and are fed token by token, and single steps from random states.
#pragma once
#include <ATen/ATen.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "ops/decode_step/decode_step.h"
#include "ops/op_run.h"
#include "ops/rope_inputs.h"
#include "ops/stochastic_round/stochastic_round.h"
#include "support/allocations.h"

namespace tigon::testing::decode {

inline at::Tensor indices(const std::vector<int64_t>& values) {
  return at::tensor(values, at::kLong).to(test_device());
}

inline at::ScalarType wide_type(at::ScalarType type) {
  return type == at::kDouble ? at::kDouble : at::kFloat;
}

/// One step of some of the sequences.
struct Turn {
  std::vector<int64_t> sequences, positions, rows;  // rows: of the tokens of all sequences
  at::Tensor slots;                                 // [S]
};

/// Sequences of `length` tokens, laid end to end; sequence i joins in at step i and is in slot
/// slots[i]: every step has other positions.
inline std::vector<Turn> staggered_turns(int64_t length, const std::vector<int64_t>& slots) {
  std::vector<Turn> turns;
  const auto count = static_cast<int64_t>(slots.size());
  for (int64_t t = 0; t < length + count - 1; ++t) {
    Turn turn;
    std::vector<int64_t> own_slots;
    for (int64_t i = 0; i < count; ++i) {
      if (t < i || t - i >= length) continue;
      turn.sequences.push_back(i);
      turn.positions.push_back(t - i);
      turn.rows.push_back(i * length + t - i);
      own_slots.push_back(slots[i]);
    }
    turn.slots = indices(own_slots);
    turns.push_back(std::move(turn));
  }
  return turns;
}

/// A step of one token each at these positions, from random rings and matrices.
struct Step {
  int64_t heads, kv_heads, head_dim, window_keys;
  std::vector<int64_t> positions;
  std::vector<int64_t> slots = {};  // none: every sequence in its own, and no list
  double rope_scale = 1;

  int64_t count() const { return static_cast<int64_t>(positions.size()); }
  int64_t slot_count() const { return slots.empty() ? count() : count() + 2; }

  /// Numbers that bfloat16 holds.
  at::Tensor draw(at::IntArrayRef shape, uint64_t seed, at::ScalarType type) const {
    return random_tensor(shape, seed).to(at::kBFloat16).to(type);
  }
  DecodeTokens tokens(at::ScalarType type) const {
    return {draw({count(), heads, head_dim}, 1, type),
            draw({count(), kv_heads, head_dim}, 2, type),
            draw({count(), kv_heads, head_dim}, 3, type),
            indices(positions),
            inverse_frequencies(head_dim),
            rope_scale};
  }
  DecodeState state(at::ScalarType type, int64_t rows, int64_t columns) const {
    const int64_t W = window_keys;
    return {draw({slot_count(), W, kv_heads, head_dim}, 4, type),
            draw({slot_count(), W, kv_heads, head_dim}, 5, type),
            draw({slot_count(), kv_heads, rows, columns}, 6, wide_type(type)).abs(),
            slots.empty() ? std::nullopt : std::optional<at::Tensor>(indices(slots))};
  }
};

/// What a step leaves, to compare by name.
struct StepRun {
  at::Tensor out;
  DecodeState state;
};

/// A ring after a step: the new token in its row, all other rows as they were, bit by bit.
inline void check_ring(const std::string& name, const Step& step, const at::Tensor& found,
                       const at::Tensor& before, const at::Tensor& own) {
  const at::Tensor expected = before.clone();
  for (int64_t s = 0; s < step.count(); ++s) {
    const int64_t slot = step.slots.empty() ? s : step.slots[s];
    expected.select(0, slot).select(0, step.positions[s] % step.window_keys).copy_(own[s]);
  }
  check_bitwise(name, found, expected);
}

/// Judges the op by its plain definition in the same dtype, both against the definition in float64;
/// matrices and rings by themselves. `run(type, use_plain)`.
inline void check_step(const Step& step, int64_t rows, int64_t columns,
                       const std::function<StepRun(at::ScalarType, bool)>& run) {
  INFO("heads " << step.heads << "/" << step.kv_heads << " of " << step.head_dim << ", window "
                << step.window_keys << ", positions " << at::IntArrayRef(step.positions));
  const StepRun reference = run(at::kDouble, true);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    INFO("dtype " << c10::toString(type));
    const StepRun found = run(type, false);
    CHECK(found.out.scalar_type() == type);
    if (type == at::kFloat) {
      check_close("out", found.out, reference.out, kFloat32Op);
    } else {
      check_low_precision("out", found.out, run(type, true).out, reference.out);
    }
    check_close("matrices", found.state.matrices, reference.state.matrices, kFloat32Op);
    const DecodeState before = step.state(type, rows, columns);
    check_ring("ring_keys", step, found.state.ring_keys, before.ring_keys, step.tokens(type).k);
    check_ring("ring_values", step, found.state.ring_values, before.ring_values,
               step.tokens(type).v);
    const StepRun again = run(type, false);
    check_bitwise("out again", again.out, found.out);
    check_bitwise("matrices again", again.state.matrices, found.state.matrices);
  }
}

/// Matrices kept in bfloat16: the output is that of the same numbers in float32, and the slots hold
/// what float32 ones would, rounded at the new tokens' positions. `run(state, type)`: a step's
/// output, the state changed.
inline void check_rounded_matrices(
    const Step& step, int64_t rows, int64_t columns,
    const std::function<at::Tensor(const DecodeState&, at::ScalarType)>& run) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    INFO("heads " << step.heads << "/" << step.kv_heads << " of " << step.head_dim << ", dtype "
                  << c10::toString(type));
    const DecodeState wide = step.state(type, rows, columns);
    DecodeState narrow = step.state(type, rows, columns);
    narrow.matrices = narrow.matrices.to(at::kBFloat16);
    const at::Tensor before = narrow.matrices.clone();
    const at::Tensor expected = run(wide, type), found = run(narrow, type);
    check_bitwise("out", found, expected);
    at::Tensor kept = before.clone();
    for (int64_t s = 0; s < step.count(); ++s) {
      const int64_t slot = step.slots.empty() ? s : step.slots[s];
      kept.narrow(0, slot, 1)
          .copy_(stochastic_round(wide.matrices.narrow(0, slot, 1), indices({step.positions[s]})));
    }
    check_bitwise("matrices", narrow.matrices, kept);
    CHECK_FALSE(narrow.matrices.equal(before));
  }
}

/// Heads with kernels and without, groups of query heads of all variants, windows from one key to
/// the largest, full and filling up, a slot order of its own.
inline std::vector<Step> steps() {
  return {{4, 2, 64, 64, {0, 63, 64, 1000}},
          {3, 3, 96, 65, {70, 5}},
          {8, 2, 128, 64, {100, 7, 700}, {3, 0, 4}},
          {8, 1, 64, 17, {16, 17, 40}},
          {12, 1, 128, 64, {90}},
          {28, 4, 128, 64, {90, 3}, {1, 0}},
          {4, 4, 128, 512, {511, 300, 900}},
          {6, 2, 8, 1, {0, 1, 9}},
          {4, 2, 40, 16, {3, 50}, {}, 1.25},
          {4, 2, 10, 16, {3, 50}},
          {4, 2, 160, 16, {3, 50}},
          {4, 2, 64, 600, {3, 700}}};
}

/// Fails if on a GPU a step takes more memory than its kernels do, the result and `between_bytes`,
/// as the plain definition would. Every head size, window and dtype, of the matrices too, that has
/// kernels.
inline void check_served_by_kernels(
    const std::function<std::function<at::Tensor()>(const Step&, at::ScalarType type,
                                                    at::ScalarType matrix_type)>& prepare,
    const std::function<int64_t(const Step&)>& between_bytes) {
  if (!test_device().is_cuda()) return;
  constexpr int64_t kRounding = 512;  // of the allocator
  for (const int64_t head_dim : {64, 96, 128}) {
    for (const int64_t window_keys : {64, 512}) {
      for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
        for (const at::ScalarType matrix_type : {at::kFloat, at::kBFloat16}) {
          const Step step{8, 2, head_dim, window_keys, {window_keys + 3, 5}};
          INFO("heads of " << head_dim << ", window " << window_keys << ", " << c10::toString(type)
                           << ", matrices " << c10::toString(matrix_type));
          const auto call = prepare(step, type, matrix_type);
          const AllocationRecorder recorder;
          const at::Tensor out = call();
          CHECK(recorder.peak() <=
                static_cast<int64_t>(out.nbytes()) + between_bytes(step) + 2 * kRounding);
        }
      }
    }
  }
}

}  // namespace tigon::testing::decode
