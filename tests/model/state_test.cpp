#include "model/state.h"

#include "support/catch.h"
#include "support/tiny_model.h"
#include "support/tolerance.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

// Bytes of one key and its value over both KV heads of the tiny model.
int64_t pair_bytes(int64_t element_bytes) {
  return 2 * 2 * 16 * element_bytes;
}

}  // namespace

TEST_CASE("Bytes of state a sequence keeps, by mixer") {
  const HeadShape shape = head_shape(tiny_config());
  const auto bytes = [&](const std::shared_ptr<const Mixer>& mixer, int64_t tokens,
                         at::ScalarType dtype) {
    return state_bytes_per_sequence(MixerStack(3, mixer), tokens, dtype);
  };
  for (const int64_t tokens : {1000, 32768}) {
    CHECK(bytes(make_softmax_mixer(shape), tokens, at::kBFloat16) == 3 * tokens * pair_bytes(2));
    CHECK(bytes(make_window_mixer(shape, {}), tokens, at::kBFloat16) == 3 * 64 * pair_bytes(2));
    CHECK(bytes(make_window_mixer(shape, {.sinks = 4}), tokens, at::kFloat) ==
          3 * 68 * pair_bytes(4));
    // One float32 matrix per KV head beside the ring.
    CHECK(bytes(make_liger_gla_mixer(shape, {}), tokens, at::kBFloat16) ==
          3 * (64 * pair_bytes(2) + 2 * 16 * 16 * 4));
    // The same with a wider matrix, and the importance of each key of the ring.
    CHECK(bytes(make_tigon_mixer(shape, 48, {}, at::kCPU), tokens, at::kBFloat16) ==
          3 * (64 * pair_bytes(2) + 64 * 2 * 4 + 2 * 32 * 17 * 4));
  }
}

TEST_CASE("A state counts its live tensors, on the device it was made for") {
  const Model model = tiny_model();
  const MixerStack stack(2, make_liger_gla_mixer(head_shape(model.config), {}));
  ModelState state(stack, 5, at::kFloat, test_device());
  CHECK(state.bytes() == 5 * state_bytes_per_sequence(stack, 1, at::kFloat));
  CHECK(state.slots() == 5);
  CHECK(state.layers() == 2);
  for (const at::Tensor& tensor : state.layer(1).tensors()) {
    CHECK(tensor.device() == test_device());
  }
}

TEST_CASE("A KV cache grows by doubling, and not where room was reserved") {
  const at::NoGradGuard no_grad;
  const Model model = tiny_model();
  const MixerStack stack = make_teacher_stack(model.config);
  const std::vector<int64_t> tokens = random_tokens(300, 97, 1);
  const at::Tensor whole = forward_hidden(model, stack, make_batch({tokens}, test_device()));
  for (const int64_t reserved : {0, 300}) {
    ModelState state(stack, 1, at::kFloat, test_device());
    state.reserve(reserved);
    std::vector<int64_t> sizes;
    std::vector<at::Tensor> parts;
    for (int64_t begin = 0; begin < 300; begin += 20) {
      const std::vector<int64_t> piece(tokens.begin() + begin, tokens.begin() + begin + 20);
      const Batch batch = make_batch({piece}, test_device(), &state);
      parts.push_back(forward_hidden(model, stack, batch, {.state = &state}));
      const int64_t rows = state.layer(0).tensors()[0].size(1);
      if (sizes.empty() || sizes.back() != rows) sizes.push_back(rows);
    }
    check_close("hidden", at::cat(parts), whole, kFormsAgree);
    CHECK(sizes ==
          (reserved == 0 ? std::vector<int64_t>{64, 128, 256, 512} : std::vector<int64_t>{300}));
    CHECK(state.length(0) == 300);
  }
}

TEST_CASE("Constant states stay constant") {
  const at::NoGradGuard no_grad;
  const Model model = tiny_model();
  const MixerStack stack(2, make_liger_gla_mixer(head_shape(model.config), {.window_keys = 16}));
  ModelState state(stack, 1, at::kFloat, test_device());
  const int64_t before = state.bytes();
  for (int i = 0; i < 3; ++i) {
    const Batch batch = make_batch({random_tokens(50, 97, i)}, test_device(), &state);
    forward_hidden(model, stack, batch, {.state = &state});
  }
  CHECK(state.bytes() == before);
}

TEST_CASE("A reset leaves nothing of a sequence behind") {
  const at::NoGradGuard no_grad;
  const Model model = tiny_model();
  const HeadShape shape = head_shape(model.config);
  for (const auto& mixer :
       {make_softmax_mixer(shape), make_window_mixer(shape, {.sinks = 2}),
        make_liger_gla_mixer(shape, {}), trained_tigon_stack(model.config, 2).front()}) {
    INFO(mixer->describe());
    const MixerStack stack(2, mixer);
    ModelState state(stack, 2, at::kFloat, test_device());
    const Batch batch = make_batch({{1, 2, 3}, {4, 5, 6}}, test_device(), &state);
    forward_hidden(model, stack, batch, {.state = &state});
    state.reset(1);
    for (const at::Tensor& tensor : state.layer(0).tensors()) {
      CHECK(tensor[0].abs().max().item<double>() > 0);
      CHECK(tensor[1].abs().max().item<double>() == 0);
    }
  }
}
