#include "model/batch.h"

#include "ops/linear_cross_entropy/linear_cross_entropy.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/tiny_model.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

at::Tensor longs(const std::vector<int64_t>& values) {
  return at::tensor(values, at::kLong);
}

}  // namespace

TEST_CASE("Sequences lie end to end, with positions from 0 in each") {
  const Batch batch = make_batch({{5, 6, 7}, {}, {8}, {9, 10}}, test_device());
  check_bitwise("tokens", batch.tokens, longs({5, 6, 7, 8, 9, 10}));
  check_bitwise("positions", batch.positions, longs({0, 1, 2, 0, 0, 1}));
  CHECK(batch.segments.lengths == std::vector<int64_t>{3, 0, 1, 2});
  CHECK(batch.segments.total == 6);
  CHECK(batch.slots.empty());
  CHECK(batch.tokens.device() == test_device());
}

TEST_CASE("Rows with borders give the same batch as sequences") {
  const Batch batch = make_batch({5, 6, 7, 8, 9}, {2, 3}, test_device());
  check_bitwise("positions", batch.positions, longs({0, 1, 0, 1, 2}));
  check_refused(
      [] {
        make_batch({5, 6, 7}, {2, 2}, at::kCPU);
      },
      "segment lengths add up to 4, but there are 3 tokens");
}

TEST_CASE("With a state, positions start where each slot stands") {
  const at::NoGradGuard no_grad;
  const Model model = tiny_model();
  const MixerStack stack = make_teacher_stack(model.config);
  ModelState state(stack, 3, at::kFloat, test_device());
  const Batch first = make_batch({{1, 2, 3}, {4}}, test_device(), &state, {2, 0});
  forward_hidden(model, stack, first, {.state = &state});

  const Batch batch = make_batch({{1, 2}, {3}, {4}}, test_device(), &state);
  CHECK(batch.slots == std::vector<int64_t>{0, 1, 2});
  CHECK(batch.past_lengths == std::vector<int64_t>{1, 0, 3});
  check_bitwise("positions", batch.positions, longs({1, 2, 0, 3}));
}

TEST_CASE("Impossible slots are refused") {
  const Model model = tiny_model();
  const ModelState state(make_teacher_stack(model.config), 2, at::kFloat, at::kCPU);
  const auto make = [&](std::vector<int64_t> slots) {
    return make_batch({{1}, {2}}, at::kCPU, &state, std::move(slots));
  };
  check_refused([&] { make({0, 2}); }, "state slot 2 does not exist, the state has 2");
  check_refused([&] { make({0, -1}); }, "state slot -1 does not exist");
  check_refused([&] { make({1, 1}); }, "state slot 1 is given to two sequences");
  check_refused([&] { make({1}); }, "1 state slots for 2 sequences");
  check_refused([&] { make_batch({{1}}, at::kCPU, nullptr, {0}); }, "without a state");
}

TEST_CASE("A batch is good for one forward pass with the state it was made for") {
  const at::NoGradGuard no_grad;
  const Model model = tiny_model();
  const MixerStack stack = make_teacher_stack(model.config);
  ModelState state(stack, 1, at::kFloat, test_device());
  const Batch batch = make_batch({{1, 2, 3}}, test_device(), &state);
  forward_hidden(model, stack, batch, {.state = &state});
  check_refused([&] { forward_hidden(model, stack, batch, {.state = &state}); },
                "continues slot 0 at token 0, but the slot has seen 3");
  const Batch stateless = make_batch({{1, 2, 3}}, test_device());
  check_refused([&] { forward_hidden(model, stack, stateless, {.state = &state}); },
                "it was made without a state");
}

TEST_CASE("Targets are the next token of the same segment") {
  const Batch batch = make_batch({5, 6, 7, 8, 9, 10}, {3, 0, 1, 2}, test_device());
  check_bitwise("targets", next_token_targets(batch),
                longs({6, 7, kIgnoredTarget, kIgnoredTarget, 10, kIgnoredTarget}));
  // Of the tokens 6 … 10, all but 7 and 9 count; 9 begins a segment and is no target anyway.
  check_bitwise("counted targets", next_token_targets(batch, {0, 1, 0, 1, 0, 1}),
                longs({6, kIgnoredTarget, kIgnoredTarget, kIgnoredTarget, 10, kIgnoredTarget}));
  check_refused(
      [&] {
        next_token_targets(batch, {1, 1});
      },
      "2 flags of counted tokens for 6 tokens");
  CHECK(next_token_targets(make_batch({{}}, test_device())).numel() == 0);
}

TEST_CASE("Token ids out of range are named with their position") {
  const Model model = tiny_model();
  const MixerStack stack = make_teacher_stack(model.config);
  const auto run = [&](std::vector<int64_t> tokens) {
    forward_hidden(model, stack, make_batch({{1, 2}, std::move(tokens)}, test_device()));
  };
  check_refused(
      [&] {
        run({3, 97, -1});
      },
      "token 3 of the batch: expected an id from 0 to 96 (vocabulary of 97), found 97");
  check_refused([&] { run({-1}); }, "token 2 of the batch");
  CHECK_NOTHROW(run({0, 96}));
}
