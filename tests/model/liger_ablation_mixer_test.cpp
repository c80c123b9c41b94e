#include "model/liger_ablation_mixer.h"

#include <cmath>

#include "core/error.h"
#include "model/mixer_run.h"
#include "support/refusal.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

using Options = LigerAblationMixerOptions;
using GateSource = Options::GateSource;
using FeatureMap = Options::FeatureMap;

const HeadShape kShape{.num_heads = 4, .num_kv_heads = 2, .head_dim = 8};

at::Tensor logistic(const at::Tensor& x) {
  return 1 / (1 + (-x).exp());
}

/// a of one token, [H, D]: k and v [H, D] already repeated for the query heads.
at::Tensor gate(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t group,
                const NamedTensors& p, const Options& options) {
  const auto fading = [&](const at::Tensor& x) {
    return logistic(x).pow(1 / options.gate_normalizer);
  };
  switch (options.gate_source) {
    case GateSource::kKeys:
      return fading(k);
    case GateSource::kValues:
      return fading(v);
    case GateSource::kQueries:
      return fading(q.view({-1, group, q.size(1)}).sum(1) / group).repeat_interleave(group, 0);
    case GateSource::kLearned:
      return fading(at::einsum("hd,hde->he", {k, p.at("w_gate").repeat_interleave(group, 0)}));
    case GateSource::kNone:
      break;
  }
  return at::ones_like(k);
}

at::Tensor features(const at::Tensor& x, const std::string& name, const NamedTensors& p,
                    const Options& options) {
  if (options.feature_map == FeatureMap::kSoftmax) return x.softmax(-1);
  if (options.feature_map == FeatureMap::kNone) return x;
  if (options.feature_map == FeatureMap::kRelu) return at::where(x > 0, x, 0.0);
  if (options.feature_map == FeatureMap::kElu) return at::where(x > 0, x + 1, x.exp());
  const at::Tensor w = p.at(name).repeat_interleave(x.size(0) / p.at(name).size(0), 0);
  const at::Tensor z = at::einsum("hd,hde->he", {x, w});
  return at::cat({z.softmax(-1), (-z).softmax(-1)}, -1);
}

/// Token by token, one state a query head.
SegmentDefinition definition(const Options& options) {
  return [=](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const NamedTensors& p) {
    const int64_t H = q.size(1), D = q.size(2), group = H / k.size(1);
    const bool is_hedgehog = options.feature_map == FeatureMap::kHedgehog;
    const bool sums_to_one = is_hedgehog || options.feature_map == FeatureMap::kSoftmax;
    at::Tensor state = at::zeros({H, is_hedgehog ? 2 * D : D, D}, q.options());
    std::vector<at::Tensor> outs;
    for (int64_t t = 0; t < q.size(0); ++t) {
      const at::Tensor key = k[t].repeat_interleave(group, 0),
                       value = v[t].repeat_interleave(group, 0);
      at::Tensor a = gate(q[t], key, value, group, p, options);
      if (is_hedgehog) a = at::cat({a, a}, -1);
      state = a.unsqueeze(-1) * state +
              features(key, "w_k", p, options).unsqueeze(-1) * value.unsqueeze(-2);
      const double scale = sums_to_one ? 1 : 1 / std::sqrt(static_cast<double>(D));
      const at::Tensor far =
          scale * features(q[t], "w_q", p, options).unsqueeze(1).matmul(state).squeeze(1);
      const at::Tensor near =
          attention_of(q, k, v, t, std::max<int64_t>(t - options.window_keys + 1, 0));
      outs.push_back((1 - options.mix) * near + options.mix * far);
    }
    return at::stack(outs);
  };
}

}  // namespace

TEST_CASE("Liger's ablations equal their formulas, every gradient by name", "[liger]") {
  const auto check = [](const Options& options) {
    const auto mixer = make_liger_ablation_mixer(kShape, options, test_device());
    INFO(mixer->describe());
    check_definition(*mixer, kShape, definition(options));
  };
  for (const GateSource source : {GateSource::kKeys, GateSource::kQueries, GateSource::kValues,
                                  GateSource::kLearned, GateSource::kNone}) {
    check({.gate_source = source, .window_keys = 5, .gate_normalizer = 4, .mix = 0.3});
  }
  for (const FeatureMap map :
       {FeatureMap::kNone, FeatureMap::kRelu, FeatureMap::kElu, FeatureMap::kHedgehog}) {
    check({.feature_map = map, .window_keys = 5, .mix = 0.3});
  }
  check({.gate_source = GateSource::kLearned,
         .feature_map = FeatureMap::kHedgehog,
         .map_init = Options::Init::kRandom,
         .window_keys = 5});
}

TEST_CASE("Liger's ablation with nothing changed is Liger-GLA", "[liger]") {
  const Batch batch = batch_of({70, 1, 33});
  const auto random = [](int64_t heads, uint64_t seed) {
    return random_tensor({104, heads, 8}, seed, at::kDouble);
  };
  const at::Tensor q = random(4, 1), k = random(2, 2), v = random(2, 3);
  check_close("out",
              run_mixer(*make_liger_ablation_mixer(kShape, {}, test_device()), q, k, v, batch),
              run_mixer(*make_liger_gla_mixer(kShape, {}), q, k, v, batch), kExactMath);
}

TEST_CASE("Liger's ablations say what they are and keep", "[liger]") {
  const auto make = [](const Options& options) {
    return make_liger_ablation_mixer(kShape, options, test_device());
  };
  CHECK(make({.gate_source = GateSource::kQueries})->describe() ==
        "window of 64 keys + linear recurrence (gate σ(mean q)^(1/16), softmax features, mix 0.5)");
  CHECK(
      make({.gate_source = GateSource::kNone, .feature_map = FeatureMap::kHedgehog})->describe() ==
      "window of 64 keys + linear recurrence (no gate, hedgehog features, mix 0.5)");
  CHECK(make({})->parameters().empty());
  CHECK(make({.feature_map = FeatureMap::kHedgehog})->parameters().size() == 2);
  CHECK(make({.gate_source = GateSource::kLearned})->parameters().size() == 1);
  CHECK(make({})->without_recurrence()->describe() == "window of 64 keys");
  const auto matrix_bytes = [&](const Options& options) {
    return state_bytes_per_sequence({make(options)}, 1000, at::kBFloat16) -
           state_bytes_per_sequence({make({})->without_recurrence()}, 1000, at::kBFloat16);
  };
  CHECK(matrix_bytes({}) == 4 * 2 * 8 * 8);
  CHECK(matrix_bytes({.feature_map = FeatureMap::kHedgehog}) == 2 * 4 * 2 * 8 * 8);
}

TEST_CASE("Impossible options of Liger's ablation are refused", "[liger]") {
  const auto refused = [](const Options& options, const std::string& text) {
    check_refused<Error>([&] { make_liger_ablation_mixer(kShape, options, test_device()); }, text);
  };
  refused({.window_keys = 0}, "liger-ablation mixer: expected window_keys ≥ 1, found 0");
  refused({.gate_normalizer = 0}, "liger-ablation mixer: expected gate_normalizer > 0, found 0");
  refused({.mix = 2}, "liger-ablation mixer: expected mix from 0 to 1, found 2");
}
