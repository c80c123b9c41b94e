// The forward pass against the plain Llama of plain_llama.h.
#include "model/plain_llama.h"

#include "support/catch.h"
#include "support/tiny_model.h"
#include "support/tolerance.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

at::Tensor logits(const Model& model, const MixerStack& stack,
                  const std::vector<std::vector<int64_t>>& sequences) {
  const at::NoGradGuard no_grad;
  return logits_of(model, forward_hidden(model, stack, make_batch(sequences, model.device)));
}

}  // namespace

TEST_CASE("A packed batch gives the plain float64 logits of each sequence") {
  const Model model = tiny_model();
  const std::vector<std::vector<int64_t>> sequences = {
      random_tokens(40, 97, 1), random_tokens(1, 97, 2), {}, random_tokens(90, 97, 3)};
  for (const int64_t window_keys : {0, 16}) {
    const MixerStack stack(2, make_softmax_mixer(head_shape(model.config), window_keys));
    const at::Tensor found = logits(model, stack, sequences);
    REQUIRE(found.scalar_type() == at::kFloat);
    int64_t offset = 0;
    for (const std::vector<int64_t>& sequence : sequences) {
      if (sequence.empty()) continue;
      const int64_t length = static_cast<int64_t>(sequence.size());
      check_close("logits", found.narrow(0, offset, length),
                  plain_logits(model, sequence, at::kDouble, window_keys), kFloat32Model);
      offset += length;
    }
    CHECK(offset == found.size(0));
  }
}

TEST_CASE("A bfloat16 model is as near to float32 as the plain version in bfloat16") {
  const Model model = tiny_model(7, at::kBFloat16);
  const std::vector<int64_t> tokens = random_tokens(70, 97, 4);
  const at::Tensor found = logits(model, make_teacher_stack(model.config), {tokens});
  check_low_precision("logits", found.to(at::kBFloat16), plain_logits(model, tokens, at::kBFloat16),
                      plain_logits(model, tokens, at::kDouble));
}

TEST_CASE("Float32 master weights are cast where activations are bfloat16") {
  Model model = tiny_model(7);
  const std::vector<int64_t> tokens = random_tokens(70, 97, 4);
  const MixerStack stack = make_teacher_stack(model.config);
  Model cast = tiny_model(7, at::kBFloat16);
  model.compute_dtype = at::kBFloat16;
  check_bitwise("logits", logits(model, stack, {tokens}), logits(cast, stack, {tokens}));
}

TEST_CASE("Tied embeddings serve as the head") {
  const Model model = random_model(tiny_config(2, /*tie_word_embeddings=*/true));
  CHECK(model.weights.lm_head.is_same(model.weights.embed_tokens));
  const std::vector<int64_t> tokens = random_tokens(30, 97, 4);
  check_close("logits", logits(model, make_teacher_stack(model.config), {tokens}),
              plain_logits(model, tokens, at::kDouble), kFloat32Model);
}
