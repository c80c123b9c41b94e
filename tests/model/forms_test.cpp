// One batch, sequence by sequence, in chunks and token by token: every form of the forward pass
// gives the same logits, for every mixer.

#include <ATen/ATen.h>

#include <algorithm>

#include "model/liger_mixer.h"
#include "model/lolcats_mixer.h"
#include "model/supra_mixer.h"
#include "support/catch.h"
#include "support/tiny_model.h"
#include "support/tolerance.h"
#include "support/trained_mixers.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

using Sequences = std::vector<std::vector<int64_t>>;

Sequences ragged_sequences() {
  Sequences sequences;
  for (const int64_t length : {1, 63, 64, 65, 130}) {
    sequences.push_back(random_tokens(length, 97, 100 + static_cast<uint64_t>(length)));
  }
  return sequences;
}

struct NamedStack {
  std::string name;
  MixerStack stack;
};

void add_liger_stacks(const ModelConfig& config, std::vector<NamedStack>& all) {
  for (const LigerVariant variant :
       {LigerVariant::kHgrn2, LigerVariant::kGsa, LigerVariant::kMamba2, LigerVariant::kMlstm,
        LigerVariant::kRetention, LigerVariant::kRwkv6}) {
    const auto mixer =
        make_liger_mixer(head_shape(config),
                         {.variant = variant, .window_keys = 16, .gate_normalizer = 4, .slots = 8});
    all.push_back({mixer->kind(), MixerStack(config.num_layers, mixer)});
  }
}

void add_supra_stacks(const ModelConfig& config, std::vector<NamedStack>& all) {
  using Options = SupraMixerOptions;
  for (const Options& options :
       {Options{}, Options{.init = Options::Init::kIdentity, .decay = Options::Decay::kNone},
        Options{.maps = Options::Maps::kPerHead,
        .decay = Options::Decay::kLearned,
        .normalizer = Options::Normalizer::kBoth,
        .has_affine = true}}) {
    const MixerStack stack = trained_stack(config.num_layers, [&](int64_t) {
      return make_supra_mixer(head_shape(config), options, test_device());
    });
    all.push_back({"supra: " + stack[0]->describe(), stack});
  }
}

void add_lolcats_stacks(const ModelConfig& config, std::vector<NamedStack>& all) {
  using Options = LolcatsMixerOptions;
  const auto terrace = Options::WindowForm::kTerrace, sliding = Options::WindowForm::kSliding;
  for (const Options& options :
       {Options{.feature_dim = 8, .window_form = terrace, .window_keys = 16},
        Options{.feature_dim = 8, .window_form = sliding, .window_keys = 16},
        Options{.feature_map = Options::FeatureMap::kT2r,
        .feature_dim = 8,
        .window_form = terrace,
        .window_keys = 7,
        .has_key_map_per_query = false}}) {
    const MixerStack stack = trained_stack(config.num_layers, [&](int64_t) {
      return make_lolcats_mixer(head_shape(config), options, test_device());
    });
    all.push_back({"lolcats: " + stack[0]->describe(), stack});
  }
  all.push_back({"terrace alone", MixerStack(config.num_layers,
                                             make_lolcats_mixer(head_shape(config),
                                                                {.window_keys = 16}, test_device())
                                                 ->without_recurrence())});
}

std::vector<NamedStack> stacks(const ModelConfig& config) {
  const HeadShape shape = head_shape(config);
  std::vector<NamedStack> all = {{"teacher", make_teacher_stack(config)}};
  const auto add = [&](const std::string& name, const std::shared_ptr<const Mixer>& mixer) {
    all.push_back({name, MixerStack(config.num_layers, mixer)});
  };
  for (const int64_t keys : {16, 64}) {
    const std::string suffix = " of " + std::to_string(keys);
    add("sliding softmax" + suffix, make_softmax_mixer(shape, keys));
    add("window" + suffix, make_window_mixer(shape, {.window_keys = keys}));
    add("window with sinks" + suffix, make_window_mixer(shape, {.window_keys = keys, .sinks = 3}));
    add("liger-gla" + suffix, make_liger_gla_mixer(shape, {.window_keys = keys}));
  }
  add("window of one key", make_window_mixer(shape, {.window_keys = 1}));
  for (const int64_t keys : {1, 16, 64}) {
    all.push_back({"tigon of " + std::to_string(keys), trained_tigon_stack(config, keys)});
  }
  all.push_back({"tigon of second order", trained_tigon_stack(config, 16, /*feature_rank=*/5)});
  add_liger_stacks(config, all);
  add_supra_stacks(config, all);
  add_lolcats_stacks(config, all);
  all.push_back(
      {"hybrid",
       {make_liger_gla_mixer(shape, {.window_keys = 16, .mix = 0.3}), make_softmax_mixer(shape)}});
  return all;
}

/// Feeds sequences through a state, piece by piece, and gives each one's hidden states.
class Continuation {
 public:
  Continuation(const Model& model, const MixerStack& stack, int64_t slots)
      : model_(model), stack_(stack), state_(stack, slots, model.compute_dtype, model.device) {}

  ModelState& state() { return state_; }

  /// pieces[i] continues slot slots[i].
  void feed(const Sequences& pieces, const std::vector<int64_t>& slots) {
    const Batch batch = make_batch(pieces, model_.device, &state_, slots);
    const at::Tensor hidden = forward_hidden(model_, stack_, batch, {.state = &state_});
    REQUIRE(hidden.size(0) == batch.segments.total);
    int64_t offset = 0;
    seen_.resize(state_.slots());
    for (size_t i = 0; i < slots.size(); ++i) {
      const int64_t length = static_cast<int64_t>(pieces[i].size());
      seen_[slots[i]].push_back(hidden.narrow(0, offset, length));
      offset += length;
    }
  }

  /// Hidden states of a slot so far [T, M].
  at::Tensor hidden(int64_t slot) const { return at::cat(seen_.at(slot)); }
  void forget(int64_t slot) {
    state_.reset(slot);
    seen_.at(slot).clear();
  }

 private:
  const Model& model_;
  const MixerStack& stack_;
  ModelState state_;
  std::vector<std::vector<at::Tensor>> seen_;
};

std::vector<at::Tensor> alone(const Model& model, const MixerStack& stack,
                              const Sequences& sequences) {
  std::vector<at::Tensor> all;
  for (const std::vector<int64_t>& sequence : sequences) {
    all.push_back(forward_hidden(model, stack, make_batch({sequence}, model.device)));
  }
  return all;
}

/// At most `count` tokens of a sequence from `begin`.
std::vector<int64_t> piece_of(const std::vector<int64_t>& sequence, size_t begin, size_t count) {
  const size_t first = std::min(begin, sequence.size());
  const size_t last = std::min(begin + count, sequence.size());
  return {sequence.begin() + static_cast<int64_t>(first),
          sequence.begin() + static_cast<int64_t>(last)};
}

/// Runs `check` for every stack over the same tiny model.
template <class Check>
void for_every_stack(const Check& check) {
  const at::NoGradGuard no_grad;
  const Model model = tiny_model();
  for (const NamedStack& named : stacks(model.config)) {
    INFO(named.name);
    check(model, named.stack);
  }
}

void check_slots(const Continuation& found, const std::vector<at::Tensor>& expected) {
  for (size_t i = 0; i < expected.size(); ++i) {
    check_close("sequence " + std::to_string(i), found.hidden(static_cast<int64_t>(i)), expected[i],
                kFormsAgree);
  }
}

}  // namespace

TEST_CASE("A packed batch equals its sequences alone", "[forms]") {
  const Sequences sequences = ragged_sequences();
  for_every_stack([&](const Model& model, const MixerStack& stack) {
    const at::Tensor packed = forward_hidden(model, stack, make_batch(sequences, model.device));
    check_close("packed", packed, at::cat(alone(model, stack, sequences)), kFormsAgree);
  });
}

TEST_CASE("Ragged chunks through a state equal the whole sequences", "[forms]") {
  const Sequences sequences = ragged_sequences();
  // Chunk sizes by round; each sequence starts elsewhere in the list, and some rounds pass it over.
  const std::vector<size_t> sizes = {7, 0, 16, 1, 33, 64, 2};
  for_every_stack([&](const Model& model, const MixerStack& stack) {
    Continuation run(model, stack, static_cast<int64_t>(sequences.size()));
    std::vector<size_t> done(sequences.size(), 0);
    for (size_t round = 0; round < 40; ++round) {
      Sequences pieces;
      std::vector<int64_t> slots;
      for (size_t i = 0; i < sequences.size(); ++i) {
        pieces.push_back(piece_of(sequences[i], done[i], sizes[(round + 2 * i) % sizes.size()]));
        slots.push_back(static_cast<int64_t>(i));
        done[i] += pieces.back().size();
      }
      run.feed(pieces, slots);
    }
    check_slots(run, alone(model, stack, sequences));
  });
}

TEST_CASE("Token by token equals the whole sequences, in a batch that shrinks", "[forms]") {
  const Sequences sequences = ragged_sequences();
  for_every_stack([&](const Model& model, const MixerStack& stack) {
    Continuation run(model, stack, static_cast<int64_t>(sequences.size()));
    for (size_t t = 0; t < 130; ++t) {
      Sequences pieces;
      std::vector<int64_t> slots;
      for (size_t i = 0; i < sequences.size(); ++i) {
        if (t >= sequences[i].size()) continue;
        pieces.push_back({sequences[i][t]});
        slots.push_back(static_cast<int64_t>(i));
      }
      run.feed(pieces, slots);
    }
    check_slots(run, alone(model, stack, sequences));
  });
}

TEST_CASE("Decoding three slots of different lengths, in another order than the slots", "[forms]") {
  const Sequences sequences = {random_tokens(12, 97, 1), random_tokens(100, 97, 2),
                               random_tokens(35, 97, 3)};
  for_every_stack([&](const Model& model, const MixerStack& stack) {
    Continuation run(model, stack, 3);
    Sequences prompts;
    for (const auto& sequence : sequences) {
      prompts.push_back(piece_of(sequence, 0, sequence.size() - 8));
    }
    run.feed(prompts, {0, 1, 2});
    for (size_t t = 8; t > 0; --t) {
      const auto token = [&](size_t i) {
        return piece_of(sequences[i], sequences[i].size() - t, 1);
      };
      run.feed({token(2), token(0), token(1)}, {2, 0, 1});
    }
    check_slots(run, alone(model, stack, sequences));
  });
}

TEST_CASE("A slot that was reset starts anew; the others go on", "[forms]") {
  const Sequences sequences = {random_tokens(70, 97, 1), random_tokens(90, 97, 2)};
  const std::vector<int64_t> before = random_tokens(150, 97, 3);
  for_every_stack([&](const Model& model, const MixerStack& stack) {
    Continuation run(model, stack, 2);
    run.feed({before, piece_of(sequences[1], 0, 50)}, {0, 1});
    run.forget(0);
    CHECK(run.state().length(0) == 0);
    CHECK(run.state().length(1) == 50);
    run.feed({piece_of(sequences[0], 0, 1), piece_of(sequences[1], 50, 1)}, {0, 1});
    run.feed({piece_of(sequences[0], 1, 69), piece_of(sequences[1], 51, 39)}, {0, 1});
    check_slots(run, alone(model, stack, sequences));
  });
}

TEST_CASE("Norms on q and k, biases, windows of the teacher's own and scaled RoPE", "[forms]") {
  const at::NoGradGuard no_grad;
  ModelConfig config = tiny_config();
  config.has_qkv_bias = config.has_output_bias = config.has_mlp_bias = config.has_qk_norm = true;
  config.layer_windows = {16, 0};
  config.rope = {.type = "yarn", .factor = 4, .original_max_position_embeddings = 32};
  Model model = random_model(config);
  visit_parameters(model.weights, [](const std::string& name, at::Tensor& parameter) {
    const bool is_new = name.ends_with(".bias") || name.ends_with("q_norm.weight") ||
                        name.ends_with("k_norm.weight");
    if (is_new) parameter = random_tensor(parameter.sizes(), name.size()).to(parameter.device());
  });
  const Sequences sequences = {random_tokens(70, 97, 1), random_tokens(41, 97, 2)};
  for (const NamedStack& named : stacks(config)) {
    INFO(named.name);
    const std::vector<at::Tensor> expected = alone(model, named.stack, sequences);
    const at::Tensor packed =
        forward_hidden(model, named.stack, make_batch(sequences, model.device));
    check_close("packed", packed, at::cat(expected), kFormsAgree);
    Continuation run(model, named.stack, 2);
    run.feed({piece_of(sequences[0], 0, 30), piece_of(sequences[1], 0, 1)}, {0, 1});
    for (size_t t = 0; t < 40; ++t) {
      run.feed({piece_of(sequences[0], 30 + t, 1), piece_of(sequences[1], 1 + t, 1)}, {0, 1});
    }
    check_slots(run, expected);
  }
}

TEST_CASE("A bfloat16 state decodes as near to float32 as the whole bfloat16 forward", "[forms]") {
  const at::NoGradGuard no_grad;
  const Model model = tiny_model(3, at::kBFloat16);
  Model wide = tiny_model(3, at::kBFloat16);
  wide.compute_dtype = at::kFloat;
  const Sequences sequences = {random_tokens(80, 97, 1), random_tokens(25, 97, 2)};
  for (const NamedStack& named : stacks(model.config)) {
    INFO(named.name);
    Continuation run(model, named.stack, 2);
    run.feed({piece_of(sequences[0], 0, 70), piece_of(sequences[1], 0, 15)}, {0, 1});
    for (size_t t = 10; t > 0; --t) {
      run.feed({piece_of(sequences[0], 80 - t, 1), piece_of(sequences[1], 25 - t, 1)}, {0, 1});
    }
    const std::vector<at::Tensor> plain = alone(model, named.stack, sequences);
    const std::vector<at::Tensor> reference = alone(wide, named.stack, sequences);
    for (int64_t i = 0; i < 2; ++i) {
      check_low_precision("sequence " + std::to_string(i), run.hidden(i), plain[i], reference[i]);
    }
  }
}
