#include "model/supra_mixer.h"

#include <cmath>

#include "core/error.h"
#include "model/mixer_run.h"
#include "support/refusal.h"
#include "support/shared_material.h"
#include "support/trained_mixers.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

using Options = SupraMixerOptions;
const HeadShape kShape{.num_heads = 4, .num_kv_heads = 2, .head_dim = 8};
const HeadShape kEqualHeads{.num_heads = 3, .num_kv_heads = 3, .head_dim = 8};

/// The recurrence of the published code, token by token, without its decay after the output.
SegmentDefinition definition(const Options& options) {
  return [=](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const NamedTensors& p) {
    const int64_t H = q.size(1), D = q.size(2), group = H / k.size(1);
    const auto map = [&](const at::Tensor& x, const at::Tensor& w, const at::Tensor& b) {
      const at::Tensor z = w.dim() == 2 ? w.matmul(x.flatten()) + b.flatten()
                                        : (at::einsum("hoi,hi->ho", {w, x}) + b).flatten();
      return at::where(z > 0, z, 0.0).view_as(x);
    };
    const bool is_shared = H == k.size(1);
    const at::Tensor w_k = p.at(is_shared ? "w_q" : "w_k"), b_k = p.at(is_shared ? "b_q" : "b_k");
    std::vector<at::Tensor> decays;
    for (int64_t h = 0; h < H; ++h) {
      const double slope = supra_slopes(H)[h];
      at::Tensor decay = at::full({}, std::exp(-slope), q.options());
      if (options.decay == Options::Decay::kRetention) decay.fill_(1 - std::pow(2.0, -5.0 - h));
      if (options.decay == Options::Decay::kNone) decay.fill_(1);
      if (options.decay == Options::Decay::kLearned) decay = (-p.at("log_slope")[h].exp()).exp();
      decays.push_back(decay);
    }
    const at::Tensor gamma = at::stack(decays).view({H, 1, 1});
    at::Tensor state = at::zeros({H, D, D}, q.options()), mass = at::zeros({H, D, 1}, q.options());
    std::vector<at::Tensor> outs;
    for (int64_t t = 0; t < q.size(0); ++t) {
      const at::Tensor fq = map(q[t], p.at("w_q"), p.at("b_q"));
      const at::Tensor fk = map(k[t], w_k, b_k) / std::sqrt(static_cast<double>(D));
      const auto for_queries = [&](const at::Tensor& x) { return x.repeat_interleave(group, 0); };
      state = gamma * state +
              for_queries(rotated_at(fk, t)).unsqueeze(-1) * for_queries(v[t]).unsqueeze(-2);
      mass = gamma * mass + for_queries(fk).unsqueeze(-1);
      at::Tensor out = rotated_at(fq, t).unsqueeze(1).matmul(state).squeeze(1);
      if (options.normalizer != Options::Normalizer::kGroupNorm) {
        out = out / at::clamp_min(fq.unsqueeze(1).matmul(mass).squeeze(1), 1e-6);
      }
      if (options.normalizer != Options::Normalizer::kDenominator) {
        const at::Tensor centred = out - out.mean(-1, true);
        out = centred / (centred.square().mean(-1, true) + options.norm_eps).sqrt();
      }
      if (options.has_affine) {
        out = out * p.at("norm_weight").view({H, D}) + p.at("norm_bias").view({H, D});
      }
      outs.push_back(out);
    }
    return at::stack(outs);
  };
}

}  // namespace

TEST_CASE("SUPRA equals its formula, every gradient by name", "[supra]") {
  using Init = Options::Init;
  using Maps = Options::Maps;
  using Decay = Options::Decay;
  using Normalizer = Options::Normalizer;
  const std::vector<Options> cases = {
      {},
      {.init = Init::kIdentity, .decay = Decay::kRetention},
      {.maps = Maps::kPerHead, .decay = Decay::kNone},
      {.init = Init::kIdentity, .maps = Maps::kPerHead, .decay = Decay::kLearned},
      {.normalizer = Normalizer::kBoth, .has_affine = true, .norm_eps = 1e-3},
      {.decay = Decay::kLearned, .normalizer = Normalizer::kDenominator}};
  for (const HeadShape& shape : {kShape, kEqualHeads}) {
    for (const Options& options : cases) {
      const auto mixer = make_supra_mixer(shape, options, test_device());
      INFO(mixer->describe() << ", " << shape.num_heads << " heads");
      perturb_parameters(*mixer, 1);
      check_definition(*mixer, shape, definition(options));
    }
  }
}

TEST_CASE("SUPRA equals golden values, every gradient by name", "[supra]") {
  TIGON_SHARED_OR_SKIP(path, "golden/ops/supra.safetensors");
  const SafetensorsFile file(path);
  const at::Tensor rows = golden(file, "q");  // [B, T, H, D]
  const HeadShape shape{rows.size(2), golden(file, "k").size(2), rows.size(3)};
  const auto tokens = [&](const std::string& tensor) { return golden(file, tensor).flatten(0, 1); };
  const auto mixer =
      make_supra_mixer(shape, {.norm_eps = std::stod(file.metadata().at("eps"))}, test_device());
  const std::vector<std::pair<std::string, std::string>> names = {
      {"w_q", "wq"}, {"b_q", "bq"}, {"w_k", "wk"}, {"b_k", "bk"}};
  NamedTensors parameters = parameters_of(*mixer);
  std::vector<at::Tensor> inputs = {tokens("q"), tokens("k"), tokens("v")};
  for (const auto& [name, file_name] : names) {
    parameters.at(name).copy_(golden(file, file_name));
    inputs.push_back(parameters.at(name));
  }
  for (at::Tensor& input : inputs) input.requires_grad_(true);
  const std::vector<int64_t> lengths(rows.size(0), rows.size(1));
  const at::Tensor out = run_mixer(*mixer, inputs[0], inputs[1], inputs[2], batch_of(lengths));
  check_close("o", out, tokens("o"), kFloat32Op);
  const auto gradients = torch::autograd::grad({out}, inputs, {tokens("do")});
  check_close("dq", gradients[0], tokens("dq"), kFloat32Op);
  check_close("dk", gradients[1], tokens("dk"), kFloat32Op);
  check_close("dv", gradients[2], tokens("dv"), kFloat32Op);
  for (size_t i = 0; i < names.size(); ++i) {
    check_close("d" + names[i].first, gradients[3 + i], golden(file, "d" + names[i].second),
                kFloat32Op);
  }
  const at::NoGradGuard no_grad;
  ModelState state({mixer}, rows.size(0), at::kFloat, test_device());
  run_mixer(*mixer, inputs[0], inputs[1], inputs[2], batch_of(lengths, &state), &state);
  check_close("state", state.layer(0).tensors()[0], golden(file, "state"), kFloat32Op);
}

TEST_CASE("The published decays of SUPRA", "[supra]") {
  const std::vector<double> slopes = supra_slopes(32);
  CHECK(slopes[0] == Approx(0.8409).epsilon(1e-4));
  CHECK(slopes[31] == Approx(0.00390625));
  CHECK(supra_slopes(4) == std::vector<double>{0.25, 0.0625, 0.015625, 0.00390625});
  // 24 heads: those of 16, and every second one of 32.
  const std::vector<double> odd = supra_slopes(24);
  REQUIRE(odd.size() == 24);
  CHECK(odd[15] == Approx(0.00390625));
  CHECK(odd[16] == Approx(slopes[0]));
  CHECK(odd[17] == Approx(slopes[2]));
}

TEST_CASE("SUPRA's parameters and their initial values", "[supra]") {
  const auto published = parameters_of(*make_supra_mixer(kShape, {}, test_device()));
  REQUIRE(published.size() == 4);
  CHECK(published.at("w_q").sizes() == at::IntArrayRef({32, 32}));
  CHECK(published.at("w_k").sizes() == at::IntArrayRef({16, 16}));
  const double bound = 1 / std::sqrt(32.0);
  CHECK(published.at("w_q").abs().max().item<double>() <= bound);
  CHECK(published.at("w_q").std().item<double>() == Approx(bound / std::sqrt(3)).epsilon(0.05));
  CHECK(published.at("b_q").abs().max().item<double>() > 0);
  check_bitwise("the same seed", published.at("w_q"),
                parameters_of(*make_supra_mixer(kShape, {}, test_device())).at("w_q"));
  const auto other = parameters_of(*make_supra_mixer(kShape, {.seed = 2}, test_device()));
  CHECK(relative_rms(other.at("w_q"), published.at("w_q")) > 0.5);

  const auto identity = parameters_of(*make_supra_mixer(
      kShape,
      {.init = Options::Init::kIdentity, .maps = Options::Maps::kPerHead, .has_affine = true},
      test_device()));
  CHECK(identity.size() == 6);
  const auto wide = at::device(test_device()).dtype(at::kFloat);
  check_bitwise("w_k", identity.at("w_k"), at::eye(8, wide).expand({2, 8, 8}));
  check_bitwise("b_q", identity.at("b_q"), at::zeros({4, 8}, wide));
  check_bitwise("norm_weight", identity.at("norm_weight"), at::ones({32}, wide));
  // With as many KV heads as query heads the maps of q serve k too.
  CHECK(parameters_of(*make_supra_mixer(kEqualHeads, {}, test_device())).size() == 2);
}

TEST_CASE("SUPRA says what it is; it has no window to fall back to", "[supra]") {
  const auto mixer = make_supra_mixer(kShape, {}, test_device());
  CHECK(mixer->kind() == "supra");
  CHECK(mixer->describe() ==
        "linear recurrence (maps across heads, published decays, norm over each head)");
  CHECK(make_supra_mixer(kShape,
                         {.maps = Options::Maps::kPerHead,
                          .decay = Options::Decay::kLearned,
                          .normalizer = Options::Normalizer::kBoth,
                          .has_affine = true},
                         test_device())
            ->describe() ==
        "linear recurrence (maps per head, learned decays, denominator and norm over each head "
        "with weights)");
  CHECK(mixer->without_recurrence() == nullptr);
}

TEST_CASE("SUPRA's state: a matrix a query head, a KV head without decay", "[supra]") {
  const auto bytes = [](const Options& options) {
    const auto mixer = make_supra_mixer(kShape, options, at::kMeta);
    return state_bytes_per_sequence({mixer}, 1000, at::kBFloat16);
  };
  CHECK(bytes({}) == 4 * 4 * 8 * 8);
  CHECK(bytes({.normalizer = Options::Normalizer::kBoth}) == 4 * 4 * 8 * 9);
  CHECK(bytes({.decay = Options::Decay::kNone}) == 4 * 2 * 8 * 8);
}

TEST_CASE("Impossible options of a supra mixer are refused", "[supra]") {
  const auto refused = [](const Options& options, const std::string& text) {
    check_refused<Error>([&] { make_supra_mixer(kShape, options, test_device()); }, text);
  };
  refused({.norm_eps = 0}, "supra mixer: expected norm_eps > 0, found 0");
  refused({.normalizer = Options::Normalizer::kDenominator, .has_affine = true},
          "expected a norm over each head for its weights, found a denominator alone");
}
