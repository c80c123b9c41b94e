// States whose matrices are bfloat16 between tokens, for every mixer that keeps any.
#include <ATen/ATen.h>

#include <functional>
#include <map>

#include "model/liger_mixer.h"
#include "model/lolcats_mixer.h"
#include "model/supra_mixer.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/tiny_model.h"
#include "support/tolerance.h"
#include "support/trained_mixers.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

using MakeStack = std::function<MixerStack(at::ScalarType state_dtype)>;

/// Long decay times, so that rounding adds up.
std::map<std::string, MakeStack> stacks(const ModelConfig& config, at::Device device) {
  const HeadShape shape = head_shape(config);
  const int64_t layers = config.num_layers;
  std::map<std::string, MakeStack> all;
  for (const int64_t rank : {0, 5}) {
    all[rank == 0 ? "tigon" : "tigon of second order"] = [=](at::ScalarType type) {
      return trained_stack(layers, [&](int64_t) {
        auto mixer = make_tigon_mixer(
            shape, config.hidden_size,
            {.window_keys = 16, .feature_rank = rank, .state_dtype = type}, device);
        // Of second order x·y is about 1, as calibration makes it.
        if (rank > 0) at::Tensor(mixer->parameters().front().second).mul_(0.5);
        return mixer;
      });
    };
  }
  all["liger-gla"] = [=](at::ScalarType type) {
    return MixerStack(layers,
                      make_liger_gla_mixer(
                          shape, {.window_keys = 16, .gate_normalizer = 300, .state_dtype = type}));
  };
  for (const LigerVariant variant : {LigerVariant::kMamba2, LigerVariant::kGsa}) {
    all[std::string(liger_variant_name(variant))] = [=](at::ScalarType type) {
      return MixerStack(layers, make_liger_mixer(shape, {.variant = variant,
                                                         .window_keys = 16,
                                                         .gate_normalizer = 300,
                                                         .slots = 8,
                                                         .state_dtype = type}));
    };
  }
  using Supra = SupraMixerOptions;
  for (const Supra::Normalizer normalizer :
       {Supra::Normalizer::kGroupNorm, Supra::Normalizer::kDenominator}) {
    const bool is_norm = normalizer == Supra::Normalizer::kGroupNorm;
    all[is_norm ? "supra" : "supra with a denominator"] = [=](at::ScalarType type) {
      return trained_stack(layers, [&](int64_t) {
        return make_supra_mixer(shape, {.normalizer = normalizer, .state_dtype = type}, device);
      });
    };
  }
  for (const auto form :
       {LolcatsMixerOptions::WindowForm::kTerrace, LolcatsMixerOptions::WindowForm::kSliding}) {
    const bool is_terrace = form == LolcatsMixerOptions::WindowForm::kTerrace;
    all[is_terrace ? "lolcats" : "lolcats, sliding"] = [=](at::ScalarType type) {
      return trained_stack(layers, [&](int64_t) {
        return make_lolcats_mixer(
            shape, {.feature_dim = 8, .window_form = form, .window_keys = 16, .state_dtype = type},
            device);
      });
    };
  }
  return all;
}

/// Hidden states [T, M] of a sequence in one slot of a state, in pieces of these lengths; the last
/// length repeats.
at::Tensor in_pieces(const Model& model, const MixerStack& stack,
                     const std::vector<int64_t>& tokens, const std::vector<size_t>& lengths,
                     ModelState& state, int64_t slot) {
  std::vector<at::Tensor> parts;
  for (size_t first = 0, i = 0; first < tokens.size(); ++i) {
    const size_t length = lengths[std::min(i, lengths.size() - 1)];
    const auto begin = tokens.begin() + static_cast<int64_t>(first);
    const size_t count = std::min(length, tokens.size() - first);
    const Batch batch =
        make_batch({{begin, begin + static_cast<int64_t>(count)}}, model.device, &state, {slot});
    parts.push_back(forward_hidden(model, stack, batch, {.state = &state}));
    first += count;
  }
  return at::cat(parts);
}

}  // namespace

TEST_CASE("A rounded state follows the whole sequence over hundreds of tokens", "[rounded_state]") {
  const at::NoGradGuard no_grad;
  const Model model = random_model(tiny_config(/*num_layers=*/1));
  const std::vector<int64_t> tokens = random_tokens(650, 97, 5);
  for (const auto& [name, make] : stacks(model.config, test_device())) {
    INFO(name);
    const MixerStack stack = make(at::kBFloat16);
    const at::Tensor whole = forward_hidden(model, stack, make_batch({tokens}, model.device));
    check_bitwise("whole", whole,
                  forward_hidden(model, make(at::kFloat), make_batch({tokens}, model.device)));
    for (const std::vector<size_t>& lengths : {std::vector<size_t>{1}, {620, 1}, {1, 64, 7, 130}}) {
      INFO("pieces of " << at::IntArrayRef(std::vector<int64_t>(lengths.begin(), lengths.end())));
      ModelState state(stack, 1, at::kFloat, model.device);
      const at::Tensor found = in_pieces(model, stack, tokens, lengths, state, 0);
      // Of second order the channel 1 holds most of the mass: nothing averages its errors.
      const bool is_average = name != "tigon of second order";
      check_close("hidden", found, whole, (is_average ? 1 : 2) * kRoundedState);
      // It is rounded: float32 is nearer by far.
      CHECK(relative_rms(found, whole) > 1e-5);
    }
  }
}

TEST_CASE("A rounded sequence is the same in any slot, after others", "[rounded_state]") {
  const at::NoGradGuard no_grad;
  const Model model = tiny_model();
  const std::vector<int64_t> tokens = random_tokens(90, 97, 5), other = random_tokens(33, 97, 6);
  for (const auto& [name, make] : stacks(model.config, test_device())) {
    INFO(name);
    const MixerStack stack = make(at::kBFloat16);
    ModelState alone(stack, 1, at::kFloat, model.device);
    ModelState state(stack, 3, at::kFloat, model.device);
    in_pieces(model, stack, other, {1}, state, 2);
    state.reset(2);
    const std::vector<size_t> lengths = {20, 1};
    check_bitwise("hidden", in_pieces(model, stack, tokens, lengths, state, 2),
                  in_pieces(model, stack, tokens, lengths, alone, 0));
  }
}

TEST_CASE("Matrices of a rounded state take half the bytes", "[rounded_state]") {
  const ModelConfig config = tiny_config();
  for (const auto& [name, make] : stacks(config, test_device())) {
    INFO(name);
    // Rings and what belongs to them are counted apart.
    const auto matrix_bytes = [&](at::ScalarType type) {
      ModelState state(make(type), 2, at::kHalf, test_device());
      int64_t bytes = 0;
      for (int64_t i = 0; i < state.layers(); ++i) {
        for (const at::Tensor& tensor : state.layer(i).tensors()) {
          const bool is_importance = tensor.dim() == 3;
          if (tensor.scalar_type() != at::kHalf && !is_importance) {
            CHECK(tensor.scalar_type() == type);
            bytes += static_cast<int64_t>(tensor.nbytes());
          }
        }
      }
      return bytes;
    };
    const int64_t half = matrix_bytes(at::kBFloat16);
    CHECK(half > 0);
    CHECK(matrix_bytes(at::kFloat) == 2 * half);
    CHECK(2 * (state_bytes_per_sequence(make(at::kFloat), 1000, at::kBFloat16) -
               state_bytes_per_sequence(make(at::kBFloat16), 1000, at::kBFloat16)) ==
          half);
    CHECK(make(at::kBFloat16)[0]->describe() ==
          make(at::kFloat)[0]->describe() + ", state in bfloat16");
  }
}

TEST_CASE("Matrices of any other type are refused", "[rounded_state]") {
  const HeadShape shape = head_shape(tiny_config());
  check_refused(
      [&] {
        make_liger_gla_mixer(shape, {.state_dtype = at::kHalf})->make_state(1, at::kHalf, at::kCPU);
      },
      "state: expected matrices in float32 or bfloat16, found Half");
}
