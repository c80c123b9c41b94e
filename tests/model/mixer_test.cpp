#include "model/mixer.h"

#include "support/catch.h"
#include "support/refusal.h"
#include "support/tiny_model.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

const HeadShape kShape{.num_heads = 4, .num_kv_heads = 2, .head_dim = 16};

}  // namespace

TEST_CASE("Mixers say what they are") {
  CHECK(make_softmax_mixer(kShape)->kind() == "softmax");
  CHECK(make_softmax_mixer(kShape)->describe() == "softmax over all keys");
  CHECK(make_softmax_mixer(kShape, 32)->describe() == "softmax over a sliding window of 32 keys");
  CHECK(make_window_mixer(kShape, {})->kind() == "window");
  CHECK(make_window_mixer(kShape, {})->describe() == "window of 64 keys");
  CHECK(make_window_mixer(kShape, {.sinks = 4})->describe() == "window of 64 keys + 4 sinks");
  CHECK(make_liger_gla_mixer(kShape, {})->kind() == "liger-gla");
  CHECK(make_liger_gla_mixer(kShape, {})->describe() ==
        "window of 64 keys + gated recurrence (gate/16, mix 0.5)");
}

TEST_CASE("The mixers of liger-gla and window add no parameters") {
  CHECK(make_liger_gla_mixer(kShape, {})->parameters().empty());
  CHECK(make_window_mixer(kShape, {})->parameters().empty());
  CHECK(make_softmax_mixer(kShape)->parameters().empty());
}

TEST_CASE("Without its recurrence liger-gla is its window; the others have none") {
  const auto off = make_liger_gla_mixer(kShape, {.window_keys = 24})->without_recurrence();
  REQUIRE(off != nullptr);
  CHECK(off->describe() == "window of 24 keys");
  CHECK(make_window_mixer(kShape, {})->without_recurrence() == nullptr);
  CHECK(make_softmax_mixer(kShape)->without_recurrence() == nullptr);
}

TEST_CASE("The recurrence and its share matter") {
  const at::NoGradGuard no_grad;
  const Model model = tiny_model();
  const Batch batch = make_batch({random_tokens(60, 97, 1)}, test_device());
  const auto hidden = [&](const LigerGlaMixerOptions& options) {
    return forward_hidden(model, MixerStack(2, make_liger_gla_mixer(kShape, options)), batch);
  };
  const at::Tensor published = hidden({.window_keys = 16});
  CHECK(relative_rms(hidden({.window_keys = 16, .mix = 0.25}), published) > 1e-2);
  CHECK(relative_rms(hidden({.window_keys = 16, .gate_normalizer = 1}), published) > 1e-3);
  CHECK(relative_rms(hidden({.window_keys = 8}), published) > 1e-3);
  const MixerStack window(2, make_window_mixer(kShape, {.window_keys = 16}));
  check_close("mix 0", hidden({.window_keys = 16, .mix = 0}), forward_hidden(model, window, batch),
              1e-6);
}

TEST_CASE("Impossible mixer options are refused") {
  check_refused([] { make_softmax_mixer(kShape, -1); }, "expected window_keys ≥ 0, found -1");
  check_refused([] { make_window_mixer(kShape, {.window_keys = 0}); },
                "window mixer: expected window_keys ≥ 1, found 0");
  check_refused([] { make_window_mixer(kShape, {.sinks = -2}); }, "expected sinks ≥ 0, found -2");
  check_refused([] { make_liger_gla_mixer(kShape, {.window_keys = 0}); },
                "liger-gla mixer: expected window_keys ≥ 1, found 0");
  check_refused([] { make_liger_gla_mixer(kShape, {.gate_normalizer = 0}); },
                "expected gate_normalizer > 0, found 0");
  check_refused([] { make_liger_gla_mixer(kShape, {.mix = 1.5}); },
                "expected mix from 0 to 1, found 1.5");
}
