#include "model/lolcats_mixer.h"

#include <cmath>

#include "core/error.h"
#include "model/mixer_run.h"
#include "support/refusal.h"
#include "support/trained_mixers.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

using Options = LolcatsMixerOptions;
const HeadShape kShape{.num_heads = 4, .num_kv_heads = 2, .head_dim = 8};

/// The quadratic form: every query against every earlier key.
SegmentDefinition definition(const Options& options) {
  return [=](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const NamedTensors& p) {
    const int64_t H = q.size(1), w = options.window_keys;
    const bool is_hedgehog = options.feature_map == Options::FeatureMap::kHedgehog;
    const auto features = [&](const at::Tensor& x, int64_t position, const std::string& side) {
      const at::Tensor weight = p.at("w_" + side);  // [maps, D, f]
      const int64_t maps = weight.size(0);
      const at::Tensor rows = rotated_at(x, position).repeat_interleave(maps / x.size(0), 0);
      at::Tensor z = at::einsum("hd,hdf->hf", {rows, weight});
      if (!is_hedgehog) {
        z = z + p.at("b_" + side).unsqueeze(-1);
        return at::clamp_min(at::where(z > 0, z, 0.0), 1e-12).repeat_interleave(H / maps, 0);
      }
      const at::Tensor mapped = at::cat({z.softmax(-1), (-z).softmax(-1)}, -1);
      return at::clamp_min(mapped, 1e-12).repeat_interleave(H / maps, 0);
    };
    const at::Tensor g = 1 / (1 + (-p.at("window_logit")).exp());  // [H]
    const at::Tensor l = options.has_affine_factors ? 1 - g : at::ones_like(g);
    std::vector<at::Tensor> outs;
    for (int64_t i = 0; i < q.size(0); ++i) {
      const int64_t first = options.window_form == Options::WindowForm::kTerrace
                                ? std::max<int64_t>(i / w - 1, 0) * w
                                : std::max<int64_t>(i - w + 1, 0);
      const at::Tensor scores = scores_of(q, k, i, first, i);  // [H, keys]
      const at::Tensor near = (scores - std::get<0>(scores.max(-1, true))).exp();
      at::Tensor sums =
          g.unsqueeze(-1) * near.unsqueeze(1).matmul(values_of(v, H, first, i)).squeeze(1);
      at::Tensor mass = g * near.sum(-1);
      for (int64_t j = 0; j < first; ++j) {
        const at::Tensor weight = l * (features(q[i], i, "q") * features(k[j], j, "k")).sum(-1);
        sums = sums + weight.unsqueeze(-1) * values_of(v, H, j, j).squeeze(1);
        mass = mass + weight;
      }
      outs.push_back(sums / mass.unsqueeze(-1));
    }
    return at::stack(outs);
  };
}

std::vector<Options> option_cases() {
  using Map = Options::FeatureMap;
  using Form = Options::WindowForm;
  return {{.feature_dim = 8, .window_keys = 4},
          {.feature_dim = 5, .window_form = Form::kSliding, .window_keys = 4},
          {.feature_map = Map::kT2r, .feature_dim = 12, .window_keys = 3},
          {.feature_map = Map::kT2r,
           .feature_dim = 8,
           .init = Options::Init::kKaiming,
           .window_form = Form::kSliding,
           .window_keys = 5,
           .has_key_map_per_query = false,
           .has_affine_factors = true},
          {.feature_dim = 8,
           .window_keys = 5,
           .has_key_map_per_query = false,
           .has_affine_factors = true},
          {.feature_dim = 8, .window_keys = 1},
          {.feature_dim = 8, .window_form = Form::kSliding, .window_keys = 1}};
}

}  // namespace

TEST_CASE("LoLCATs equals its quadratic form, every gradient by name", "[lolcats]") {
  for (const Options& options : option_cases()) {
    const auto mixer = make_lolcats_mixer(kShape, options, test_device());
    INFO(mixer->describe() << ", key map per query: " << options.has_key_map_per_query);
    perturb_parameters(*mixer, 1);
    check_definition(*mixer, kShape, definition(options));
  }
}

TEST_CASE("A LoLCATs mixer continues from every token of a block", "[lolcats]") {
  const at::NoGradGuard no_grad;
  const at::Tensor q = random_tensor({31, 4, 8}, 1), k = random_tensor({31, 2, 8}, 2);
  const at::Tensor v = random_tensor({31, 2, 8}, 3);
  for (const Options& options : option_cases()) {
    const auto mixer = make_lolcats_mixer(kShape, options, test_device());
    INFO(mixer->describe());
    perturb_parameters(*mixer, 1);
    const at::Tensor whole = run_mixer(*mixer, q, k, v, batch_of({31}));
    for (int64_t first = 1; first < 12; ++first) {
      ModelState state({mixer}, 1, at::kFloat, test_device());
      std::vector<at::Tensor> parts;
      for (int64_t from = 0, length = first; from < 31; from += length, length = 7) {
        length = std::min<int64_t>(length, 31 - from);
        const auto part = [&](const at::Tensor& x) { return x.narrow(0, from, length); };
        parts.push_back(
            run_mixer(*mixer, part(q), part(k), part(v), batch_of({length}, &state), &state));
      }
      check_close("from " + std::to_string(first), at::cat(parts), whole, kFloat32Op);
    }
  }
}

TEST_CASE("LoLCATs holds at large scores and large features", "[lolcats]") {
  const Batch batch = batch_of({40});
  const at::Tensor v = random_tensor({40, 2, 8}, 3);
  for (const Options& options : option_cases()) {
    const auto mixer = make_lolcats_mixer(kShape, options, test_device());
    const at::Tensor q = (100 * random_tensor({40, 4, 8}, 1)).requires_grad_(true);
    const at::Tensor k = (100 * random_tensor({40, 2, 8}, 2)).requires_grad_(true);
    const at::Tensor out = run_mixer(*mixer, q, k, v, batch);
    CHECK(at::isfinite(out).all().item<bool>());
    for (const at::Tensor& gradient : torch::autograd::grad({out}, {q, k}, {at::ones_like(out)})) {
      CHECK(at::isfinite(gradient).all().item<bool>());
    }
  }
}

TEST_CASE("LoLCATs' parameters and their initial values", "[lolcats]") {
  const auto found = parameters_of(*make_lolcats_mixer(kShape, {}, test_device()));
  const auto wide = at::device(test_device()).dtype(at::kFloat);
  CHECK(found.size() == 3);
  check_bitwise("w_q", found.at("w_q"), at::eye(8, 64, wide).expand({4, 8, 64}));
  check_bitwise("w_k", found.at("w_k"), at::eye(8, 64, wide).expand({4, 8, 64}));
  check_close("g", found.at("window_logit").sigmoid(), at::full({4}, 0.1, wide), 1e-4);
  const auto t2r = parameters_of(*make_lolcats_mixer(kShape,
                                                     {.feature_map = Options::FeatureMap::kT2r,
                                                      .feature_dim = 16,
                                                      .init = Options::Init::kKaiming,
                                                      .has_key_map_per_query = false},
                                                     test_device()));
  CHECK(t2r.size() == 5);
  CHECK(t2r.at("w_k").sizes() == at::IntArrayRef({2, 8, 16}));
  CHECK(t2r.at("b_q").sizes() == at::IntArrayRef({4}));
  CHECK(t2r.at("b_k").sizes() == at::IntArrayRef({2}));
  const double bound = std::sqrt(6.0 / (8 * 16));
  CHECK(t2r.at("w_q").abs().max().item<double>() <= bound);
  CHECK(t2r.at("w_q").abs().max().item<double>() > 0.9 * bound);
}

TEST_CASE("A LoLCATs mixer says what it is, and what it is without its recurrence", "[lolcats]") {
  const auto terrace = make_lolcats_mixer(kShape, {}, test_device());
  CHECK(terrace->kind() == "lolcats");
  CHECK(terrace->describe() ==
        "terrace window of 65 to 128 keys + linear attention (128 features of hedgehog, one "
        "denominator)");
  const auto terrace_alone = terrace->without_recurrence();
  REQUIRE(terrace_alone != nullptr);
  CHECK(terrace_alone->describe() == "terrace window of 65 to 128 keys");
  CHECK(terrace_alone->parameters().empty());
  CHECK(terrace_alone->without_recurrence() == nullptr);
  const auto sliding = make_lolcats_mixer(
      kShape, {.window_form = Options::WindowForm::kSliding, .window_keys = 24}, test_device());
  CHECK(sliding->without_recurrence()->describe() == "window of 24 keys");
}

TEST_CASE("A terrace alone is softmax over two blocks", "[lolcats]") {
  const auto mixer = make_lolcats_mixer(kShape, {.window_keys = 4}, test_device());
  check_definition(
      *mixer->without_recurrence(), kShape,
      [](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const NamedTensors&) {
        std::vector<at::Tensor> outs;
        for (int64_t i = 0; i < q.size(0); ++i) {
          outs.push_back(attention_of(q, k, v, i, std::max<int64_t>(i / 4 - 1, 0) * 4));
        }
        return at::stack(outs);
      });
}

TEST_CASE("LoLCATs' state: a ring and a matrix for each key map", "[lolcats]") {
  const auto bytes = [](const Options& options) {
    return state_bytes_per_sequence({make_lolcats_mixer(kShape, options, at::kMeta)}, 1000,
                                    at::kBFloat16);
  };
  const int64_t key = 2 * 2 * 8 * 2;  // k and v of 2 heads of 8 in bf16
  CHECK(bytes({.window_keys = 16}) == 31 * key + 4 * 4 * 128 * 9);
  CHECK(bytes({.window_form = Options::WindowForm::kSliding,
               .window_keys = 16,
               .has_key_map_per_query = false}) == 16 * key + 4 * 2 * 128 * 9);
}

TEST_CASE("Impossible options of a lolcats mixer are refused", "[lolcats]") {
  const auto refused = [](const Options& options, const std::string& text) {
    check_refused<Error>([&] { make_lolcats_mixer(kShape, options, test_device()); }, text);
  };
  refused({.window_keys = 0}, "lolcats mixer: expected window_keys ≥ 1, found 0");
  refused({.feature_dim = 0}, "lolcats mixer: expected feature_dim ≥ 1, found 0");
}
