#include "generate/generate.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/tiny_model.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

/// Teacher, window and liger-gla stacks whose windows are shorter than the texts.
std::vector<MixerStack> all_stacks(const ModelConfig& config) {
  const HeadShape shape = head_shape(config);
  const auto repeated = [&](const std::shared_ptr<const Mixer>& mixer) {
    return MixerStack(static_cast<size_t>(config.num_layers), mixer);
  };
  return {make_teacher_stack(config), repeated(make_window_mixer(shape, {.window_keys = 8})),
          repeated(make_liger_gla_mixer(shape, {.window_keys = 8}))};
}

std::vector<std::vector<int64_t>> some_prompts() {
  std::vector<std::vector<int64_t>> prompts;
  for (const int64_t length : {1, 7, 33, 2, 19}) {
    prompts.push_back(random_tokens(length, 97, static_cast<uint64_t>(length)));
  }
  return prompts;
}

/// Greedy generation by its definition: a full forward pass over everything for each token.
std::vector<int64_t> greedy_by_full_forward(const Model& model, const MixerStack& stack,
                                            std::vector<int64_t> tokens, int64_t count) {
  const at::NoGradGuard no_grad;
  std::vector<int64_t> generated;
  for (int64_t i = 0; i < count; ++i) {
    const at::Tensor hidden = forward_hidden(model, stack, make_batch({tokens}, model.device));
    generated.push_back(logits_of(model, hidden.slice(0, -1)).argmax(1).item<int64_t>());
    tokens.push_back(generated.back());
  }
  return generated;
}

}  // namespace

TEST_CASE("generation with a state equals full forward passes") {
  const Model model = tiny_model();
  for (const MixerStack& stack : all_stacks(model.config)) {
    INFO(stack.front()->describe());
    const auto prompts = some_prompts();
    const auto found = generate(model, stack, prompts, {.max_new_tokens = 24});
    REQUIRE(found.size() == prompts.size());
    for (size_t i = 0; i < prompts.size(); ++i) {
      CHECK(found[i].tokens == greedy_by_full_forward(model, stack, prompts[i], 24));
      CHECK_FALSE(found[i].stopped);
    }
  }
}

TEST_CASE("the size of prefill chunks changes nothing") {
  const Model model = tiny_model();
  for (const MixerStack& stack : all_stacks(model.config)) {
    INFO(stack.front()->describe());
    const auto whole = generate(model, stack, some_prompts(), {.max_new_tokens = 12});
    for (const int64_t chunk : {1, 5, 8, 40}) {
      INFO("chunk " << chunk);
      const auto chunked =
          generate(model, stack, some_prompts(), {.max_new_tokens = 12, .prefill_chunk = chunk});
      for (size_t i = 0; i < whole.size(); ++i) CHECK(chunked[i].tokens == whole[i].tokens);
    }
  }
}

TEST_CASE("a sequence's text does not depend on its batch") {
  const Model model = tiny_model();
  const auto prompts = some_prompts();
  for (const MixerStack& stack : all_stacks(model.config)) {
    INFO(stack.front()->describe());
    const GenerateOptions options{.max_new_tokens = 20, .sampling = {.temperature = 1}, .seed = 3};
    const auto together = generate(model, stack, prompts, options);
    for (size_t i = 0; i < prompts.size(); ++i) {
      const auto alone = generate(model, stack, {prompts[i]}, options, {}, static_cast<int64_t>(i));
      CHECK(alone.front().tokens == together[i].tokens);
    }
  }
}

TEST_CASE("a sequence's text does not depend on its batch where its state is rounded") {
  const Model model = tiny_model();
  const MixerStack stack(
      model.config.num_layers,
      make_liger_gla_mixer(
          head_shape(model.config),
          {.window_keys = 8, .gate_normalizer = 100, .state_dtype = at::kBFloat16}));
  const auto prompts = some_prompts();
  const GenerateOptions options{.max_new_tokens = 60};
  const auto together = generate(model, stack, prompts, options);
  for (size_t i = 0; i < prompts.size(); ++i) {
    CHECK(generate(model, stack, {prompts[i]}, options)[0].tokens == together[i].tokens);
  }
  CHECK(generate(model, stack, prompts, options)[0].tokens == together[0].tokens);
}

TEST_CASE("seed and number of a sequence decide its draws") {
  const Model model = tiny_model();
  const MixerStack stack = make_teacher_stack(model.config);
  GenerateOptions options{.max_new_tokens = 20, .sampling = {.temperature = 1}, .seed = 3};
  const std::vector<std::vector<int64_t>> prompts(2, {5});
  const auto first = generate(model, stack, prompts, options);
  CHECK(first[0].tokens != first[1].tokens);
  CHECK(generate(model, stack, prompts, options)[0].tokens == first[0].tokens);
  options.seed = 4;
  CHECK(generate(model, stack, prompts, options)[0].tokens != first[0].tokens);
}

TEST_CASE("a stop id ends its sequence and the others go on") {
  const Model model = tiny_model();
  for (const MixerStack& stack : all_stacks(model.config)) {
    INFO(stack.front()->describe());
    const std::vector<std::vector<int64_t>> prompts(32, {5, 6});
    GenerateOptions options{.max_new_tokens = 60, .sampling = {.temperature = 1}, .seed = 1};
    const auto free = generate(model, stack, prompts, options);
    // Enough stop ids that sequences leave all along the way.
    options.stop_ids = {1, 2, 3, 50};
    const auto stopped = generate(model, stack, prompts, options);
    int64_t num_stopped = 0;
    for (size_t i = 0; i < prompts.size(); ++i) {
      const auto is_stop = [&](int64_t id) { return std::ranges::count(options.stop_ids, id) > 0; };
      const auto end = std::ranges::find_if(free[i].tokens, is_stop);
      CHECK(stopped[i].tokens == std::vector<int64_t>(free[i].tokens.begin(), end));
      CHECK(stopped[i].stopped == (end != free[i].tokens.end()));
      num_stopped += stopped[i].stopped;
    }
    CHECK(num_stopped > 8);
    options.ignore_stop = true;
    CHECK(generate(model, stack, prompts, options)[0].tokens == free[0].tokens);
  }
}

TEST_CASE("every token is announced as it is drawn") {
  const Model model = tiny_model();
  const MixerStack stack = make_teacher_stack(model.config);
  std::vector<std::vector<int64_t>> announced(5);
  std::vector<int64_t> order;
  const auto found = generate(model, stack, some_prompts(), {.max_new_tokens = 4},
                              [&](int64_t sequence, int64_t token) {
                                announced.at(sequence).push_back(token);
                                order.push_back(sequence);
                              });
  for (size_t i = 0; i < found.size(); ++i) CHECK(announced[i] == found[i].tokens);
  CHECK(std::vector<int64_t>(order.begin(), order.begin() + 6) ==
        std::vector<int64_t>{0, 1, 2, 3, 4, 0});
}

TEST_CASE("impossible requests to generate are refused") {
  Model model = tiny_model();
  const MixerStack stack = make_teacher_stack(model.config);
  const auto run = [&](const std::vector<std::vector<int64_t>>& prompts,
                       const GenerateOptions& options) {
    return [&model, &stack, prompts, options] { generate(model, stack, prompts, options); };
  };
  check_refused(run({{1}, {}}, {}), "prompt 1: expected at least one token, found none");
  check_refused(run({{1, 97}}, {}), "prompt 0: expected token ids from 0 to 96, found 97");
  check_refused(run({{-1}}, {}), "found -1");
  check_refused(run({{1}}, {.max_new_tokens = 0}), "max_new_tokens: expected at least 1, found 0");
  check_refused(run({{1}}, {.prefill_chunk = 0}), "prefill_chunk: expected at least 1, found 0");
  check_refused(run({{1}}, {.sampling = {.top_p = 2}}), "top_p: expected");
  CHECK(generate(model, stack, {}, {}).empty());
  model.weights.norm.fill_(std::numeric_limits<double>::quiet_NaN());
  check_refused(run({{1}}, {}), "the logits of sequence 0 are not finite after 0 new tokens");
}
