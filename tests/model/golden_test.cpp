// Logits and greedy tokens against transformers, and the untrained students of a real model.

#include "model/liger_mixer.h"
#include "model/plain_llama.h"
#include "support/catch.h"
#include "support/shared_material.h"
#include "support/tiny_model.h"
#include "support/tolerance.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

std::vector<int64_t> to_vector(const at::Tensor& ids) {
  const at::Tensor wide = ids.to(at::kCPU, at::kLong).contiguous();
  return {wide.data_ptr<int64_t>(), wide.data_ptr<int64_t>() + wide.numel()};
}

/// ids [B, T] as B sequences in one packed batch → logits [B, T, V].
at::Tensor logits(const Model& model, const MixerStack& stack, const at::Tensor& ids) {
  const at::NoGradGuard no_grad;
  std::vector<std::vector<int64_t>> rows;
  for (int64_t b = 0; b < ids.size(0); ++b) rows.push_back(to_vector(ids[b]));
  const Batch batch = make_batch(rows, model.device);
  return logits_of(model, forward_hidden(model, stack, batch)).unflatten(0, {ids.size(0), -1});
}

/// The prompt and what greedy decoding adds to it, through a state.
std::vector<int64_t> greedy(const Model& model, const MixerStack& stack,
                            std::vector<int64_t> tokens, size_t length) {
  const at::NoGradGuard no_grad;
  ModelState state(stack, 1, model.compute_dtype, model.device);
  std::vector<int64_t> next = tokens;
  while (tokens.size() < length) {
    const Batch batch = make_batch({next}, model.device, &state);
    const at::Tensor hidden = forward_hidden(model, stack, batch, {.state = &state});
    next = to_vector(logits_of(model, hidden[-1]).argmax().view(1));
    tokens.push_back(next[0]);
  }
  return tokens;
}

void check_teacher(const std::filesystem::path& folder, const std::filesystem::path& expected) {
  const Model model = load_model(folder, at::kFloat, test_device());
  const MixerStack stack = make_teacher_stack(model.config);
  const SafetensorsFile file(expected);
  const at::Tensor ids = golden(file, "ids");
  check_close("logits", logits(model, stack, ids), golden(file, "logits"), kFloat32Model);

  const std::vector<int64_t> expected_tokens = to_vector(golden(file, "greedy")[0]);
  const std::vector<int64_t> prompt(expected_tokens.begin(), expected_tokens.begin() + 16);
  CHECK(greedy(model, stack, prompt, expected_tokens.size()) == expected_tokens);
}

}  // namespace

TEST_CASE("Sharded Llama with as many KV heads as query heads: transformers' logits and tokens",
          "[golden]") {
  TIGON_SHARED_OR_SKIP(folder, "golden/models/llama-mha");
  check_teacher(folder, folder / "expected.safetensors");
}

TEST_CASE("Llama with llama3 RoPE scaling: transformers' logits and tokens", "[golden]") {
  TIGON_SHARED_OR_SKIP(folder, "golden/models/llama-rope-llama3");
  check_teacher(folder, folder / "expected.safetensors");
}

TEST_CASE("Mistral with a sliding window: transformers' logits and tokens", "[golden]") {
  TIGON_SHARED_OR_SKIP(folder, "golden/models/mistral-sliding");
  check_teacher(folder, folder / "expected.safetensors");
}

TEST_CASE("Qwen2 with biases on q, k and v: transformers' logits and tokens", "[golden]") {
  TIGON_SHARED_OR_SKIP(folder, "golden/models/qwen2-bias");
  check_teacher(folder, folder / "expected.safetensors");
}

TEST_CASE("Qwen3 with norms on q and k: transformers' logits and tokens", "[golden]") {
  TIGON_SHARED_OR_SKIP(folder, "golden/models/qwen3-qknorm");
  check_teacher(folder, folder / "expected.safetensors");
}

TEST_CASE("A trained model in bfloat16 files: transformers' logits and tokens", "[golden]") {
  TIGON_SHARED_OR_SKIP(folder, "models/gutenberg-25m");
  TIGON_SHARED_OR_SKIP(expected, "golden/models/gutenberg-25m.safetensors");
  check_teacher(folder, expected);
}

TEST_CASE("A trained model run in bfloat16 is as near to float32 as the plain version",
          "[golden]") {
  TIGON_SHARED_OR_SKIP(folder, "models/gutenberg-25m");
  TIGON_SHARED_OR_SKIP(expected, "golden/models/gutenberg-25m.safetensors");
  const Model model = load_model(folder, at::kBFloat16, test_device());
  const SafetensorsFile file(expected);
  const at::Tensor ids = golden(file, "ids");
  const at::Tensor found = logits(model, make_teacher_stack(model.config), ids)[0];
  check_low_precision("logits", found.to(at::kBFloat16),
                      plain_logits(model, to_vector(ids[0]), at::kBFloat16),
                      golden(file, "logits")[0]);
}

TEST_CASE("Untrained students of a trained model: logits of another implementation", "[golden]") {
  TIGON_SHARED_OR_SKIP(folder, "models/gutenberg-25m");
  TIGON_SHARED_OR_SKIP(expected, "golden/models/gutenberg-25m-converted.safetensors");
  const Model model = load_model(folder, at::kFloat, test_device());
  const HeadShape shape = head_shape(model.config);
  const SafetensorsFile file(expected);
  const at::Tensor ids = golden(file, "ids");

  const auto liger = make_liger_gla_mixer(shape, {});
  const MixerStack liger_stack(model.config.num_layers, liger);
  const MixerStack window_stack(model.config.num_layers, make_window_mixer(shape, {}));
  const MixerStack branch_off(model.config.num_layers, liger->without_recurrence());
  const at::Tensor window = golden(file, "window");
  check_close("liger_gla", logits(model, liger_stack, ids), golden(file, "liger_gla"),
              kFloat32Student);
  check_close("window", logits(model, window_stack, ids), window, kFloat32Student);
  const MixerStack hgrn2_stack(model.config.num_layers, make_liger_mixer(shape, {}));
  check_close("liger_hgrn2", logits(model, hgrn2_stack, ids), golden(file, "liger_hgrn2"),
              kFloat32Student);
  check_close("liger_gla without its recurrence", logits(model, branch_off, ids), window,
              kFloat32Student);
}
