#include "model/liger_mixer.h"

#include <cmath>

#include "core/error.h"
#include "model/mixer_run.h"
#include "model/slot_scores.h"
#include "support/gradcheck.h"
#include "support/refusal.h"
#include "support/shared_material.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

const HeadShape kShape{.num_heads = 4, .num_kv_heads = 2, .head_dim = 8};

struct GateCase {
  LigerVariant variant;
  std::string name;
  // log a of k [Hkv, D].
  std::function<at::Tensor(const at::Tensor& k, const LigerMixerOptions& options)> log_gate;
};

at::Tensor head_mean(const at::Tensor& k) {
  return k.mean(-1, true);
}

std::vector<GateCase> gate_cases() {
  using Options = LigerMixerOptions;
  const auto sigmoid = [](const at::Tensor& x) { return 1 / (1 + (-x).exp()); };
  return {{LigerVariant::kHgrn2, "liger-hgrn2",
           [=](const at::Tensor& k, const Options& o) {
             return (o.lower_bound + (1 - o.lower_bound) * sigmoid(k)).log() / o.gate_normalizer;
           }},
          {LigerVariant::kMamba2, "liger-mamba2",
           [](const at::Tensor& k, const Options& o) {
             return -(1 + head_mean(k).exp()).log() / o.gate_normalizer;
           }},
          {LigerVariant::kMlstm, "liger-mlstm",
           [=](const at::Tensor& k, const Options& o) {
             return sigmoid(head_mean(k)).log() / o.gate_normalizer;
           }},
          {LigerVariant::kRetention, "liger-retention",
           [=](const at::Tensor& k, const Options& o) {
             return sigmoid(head_mean(k)).log() / o.gate_normalizer;
           }},
          {LigerVariant::kRwkv6, "liger-rwkv6",
           [](const at::Tensor& k, const Options& o) { return -k.exp() / o.gate_normalizer; }}};
}

/// The published formula, token by token, one state a query head.
SegmentDefinition definition(const GateCase& gate, const LigerMixerOptions& options) {
  return [=](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const NamedTensors&) {
    const int64_t group = q.size(1) / k.size(1);
    at::Tensor state = at::zeros({q.size(1), q.size(2), q.size(2)}, q.options());
    std::vector<at::Tensor> outs;
    for (int64_t t = 0; t < q.size(0); ++t) {
      const at::Tensor decay = gate.log_gate(k[t], options).exp();  // [Hkv, D or 1]
      const at::Tensor write =
          options.variant == LigerVariant::kHgrn2 ? 1 - decay : k[t].softmax(-1);
      const auto for_queries = [&](const at::Tensor& x) { return x.repeat_interleave(group, 0); };
      state = for_queries(decay).unsqueeze(-1) * state +
              for_queries(write).unsqueeze(-1) * for_queries(v[t]).unsqueeze(-2);
      const at::Tensor far = q[t].softmax(-1).unsqueeze(1).matmul(state).squeeze(1);
      const at::Tensor near =
          attention_of(q, k, v, t, std::max<int64_t>(t - options.window_keys + 1, 0));
      outs.push_back((1 - options.mix) * near + options.mix * far);
    }
    return at::stack(outs);
  };
}

/// The slot memory of GSA, token by token.
SegmentDefinition slot_definition(const LigerMixerOptions& options) {
  return [=](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const NamedTensors&) {
    const int64_t group = q.size(1) / k.size(1), M = options.slots, D = q.size(2);
    at::Tensor keys = at::zeros({k.size(1), M, D}, q.options()), values = keys;
    std::vector<at::Tensor> outs;
    for (int64_t t = 0; t < q.size(0); ++t) {
      const at::Tensor gate = at::adaptive_avg_pool1d(k[t].view({1, 1, -1}), k.size(1) * M);
      const at::Tensor decay =
          gate.view({k.size(1), M, 1}).sigmoid().pow(1 / options.gate_normalizer);
      keys = decay * keys + (1 - decay) * k[t].unsqueeze(1);
      values = decay * values + (1 - decay) * v[t].unsqueeze(1);
      const auto for_queries = [&](const at::Tensor& x) { return x.repeat_interleave(group, 0); };
      const at::Tensor weights = for_queries(keys).matmul(q[t].unsqueeze(-1)).softmax(1);
      const at::Tensor far = (weights * for_queries(values)).sum(1);
      const at::Tensor near =
          attention_of(q, k, v, t, std::max<int64_t>(t - options.window_keys + 1, 0));
      outs.push_back((1 - options.mix) * near + options.mix * far);
    }
    return at::stack(outs);
  };
}

/// Compares with a file of golden values: outputs of both branches, gradients, the final state.
void check_golden(const std::string& name, LigerMixerOptions options) {
  TIGON_SHARED_OR_SKIP(path, "golden/ops/" + name);
  const SafetensorsFile file(path);
  const at::Tensor rows = golden(file, "q");  // [B, T, H, D]
  const HeadShape shape{rows.size(2), golden(file, "k").size(2), rows.size(3)};
  options.window_keys = std::stoll(file.metadata().at("window"));
  if (file.metadata().contains("slots")) options.slots = std::stoll(file.metadata().at("slots"));
  const auto tokens = [&](const std::string& tensor) { return golden(file, tensor).flatten(0, 1); };
  const at::Tensor q = tokens("q").requires_grad_(true), k = tokens("k").requires_grad_(true);
  const at::Tensor v = tokens("v").requires_grad_(true);
  const std::vector<int64_t> lengths(rows.size(0), rows.size(1));
  const Batch batch = batch_of(lengths);
  for (const auto& [expected, mix] : {std::pair("o_window", 0.0), {"o_linear", 1.0}, {"o", 0.5}}) {
    options.mix = mix;
    check_close(expected, run_mixer(*make_liger_mixer(shape, options), q, k, v, batch),
                tokens(expected), kFloat32Op);
  }
  const auto mixer = make_liger_mixer(shape, options);
  const auto gradients =
      torch::autograd::grad({run_mixer(*mixer, q, k, v, batch)}, {q, k, v}, {tokens("do")});
  check_close("dq", gradients[0], tokens("dq"), kFloat32Op);
  check_close("dk", gradients[1], tokens("dk"), kFloat32Op);
  check_close("dv", gradients[2], tokens("dv"), kFloat32Op);

  const at::NoGradGuard no_grad;
  ModelState state({mixer}, rows.size(0), at::kFloat, test_device());
  run_mixer(*mixer, q, k, v, batch_of(lengths, &state), &state);
  std::vector<at::Tensor> parts = state.layer(0).tensors();
  parts.erase(parts.begin(), parts.begin() + 2);  // the ring
  check_close("state", at::cat(parts, -1).repeat_interleave(2, 1), golden(file, "state"),
              kFloat32Op);
}

}  // namespace

TEST_CASE("Liger's other gates equal their formulas, every gradient by name", "[liger]") {
  for (const GateCase& gate : gate_cases()) {
    for (const double normalizer : {1.0, 16.0}) {
      LigerMixerOptions options{gate.variant, 5, normalizer, 0.3};
      if (gate.variant == LigerVariant::kHgrn2) options.lower_bound = normalizer == 1 ? 0 : 0.25;
      INFO(gate.name << ", gate_normalizer " << normalizer);
      const auto mixer = make_liger_mixer(kShape, options);
      CHECK(mixer->kind() == gate.name);
      check_definition(*mixer, kShape, definition(gate, options));
    }
  }
}

TEST_CASE("Liger-GSA equals its formula, every gradient by name", "[liger]") {
  for (const int64_t slots : {1, 4, 8, 16}) {
    const LigerMixerOptions options{LigerVariant::kGsa, 5, 16, 0.3, 0, slots};
    INFO(slots << " slots");
    check_definition(*make_liger_mixer(kShape, options), kShape, slot_definition(options));
  }
}

TEST_CASE("Liger-HGRN2 and Liger-GSA equal golden values, every gradient by name", "[liger]") {
  check_golden("liger_hgrn2.safetensors", {.variant = LigerVariant::kHgrn2});
  check_golden("liger_gsa.safetensors", {.variant = LigerVariant::kGsa, .gate_normalizer = 16});
}

TEST_CASE("slot_scores: gradients against finite differences, with a state", "[liger]") {
  const Segments segments = Segments::from_lengths({7, 1, 0, 3}, test_device());
  for (const bool is_step : {false, true}) {
    const Segments used = is_step ? Segments::from_lengths({1, 1}, test_device()) : segments;
    const int64_t N = used.total;
    const auto random = [&](at::IntArrayRef shape, uint64_t seed) {
      return random_tensor(shape, seed, at::kDouble);
    };
    check_gradients(
        [&](const std::vector<at::Tensor>& x) -> std::vector<at::Tensor> {
          const auto result = slot_scores(x[0], x[1], x[2], x[3], used, x[4]);
          return {result.scores, result.state};
        },
        {{"q", random({N, 4, 6}, 1)},
         {"k", random({N, 2, 6}, 2)},
         {"s", random({N, 2, 3}, 3)},
         {"log_gate", -random({N, 2, 3}, 4).abs()},
         {"initial_state", random({used.count(), 2, 3, 6}, 5)}});
  }
}

TEST_CASE("Gates of Liger's family hold at the extremes of k", "[liger]") {
  const Batch batch = batch_of({40});
  for (const LigerVariant variant :
       {LigerVariant::kHgrn2, LigerVariant::kGsa, LigerVariant::kMamba2, LigerVariant::kMlstm,
        LigerVariant::kRwkv6}) {
    INFO(liger_variant_name(variant));
    const auto mixer = make_liger_mixer(kShape, {.variant = variant, .slots = 4});
    const at::Tensor q = random_tensor({40, 4, 8}, 1), v = random_tensor({40, 2, 8}, 3);
    for (const double size : {30.0, 300.0}) {
      const at::Tensor k = (size * random_tensor({40, 2, 8}, 2).sign()).requires_grad_(true);
      const at::Tensor out = run_mixer(*mixer, q, k, v, batch);
      CHECK(at::isfinite(out).all().item<bool>());
      const at::Tensor dk = torch::autograd::grad({out}, {k}, {at::ones_like(out)})[0];
      CHECK(at::isfinite(dk).all().item<bool>());
    }
  }
}

TEST_CASE("Liger's family says what it is, and what it is without its recurrence", "[liger]") {
  const auto text = [](const LigerMixerOptions& options) {
    return make_liger_mixer(kShape, options)->describe();
  };
  CHECK(text({}) == "window of 64 keys + gated recurrence (gate σ(k), mix 0.5)");
  CHECK(text({.lower_bound = 0.25}) ==
        "window of 64 keys + gated recurrence (gate (0.25 + (1−0.25) σ(k)), mix 0.5)");
  CHECK(text({.variant = LigerVariant::kGsa, .gate_normalizer = 16, .slots = 4}) ==
        "window of 64 keys + gated recurrence (gate σ(k)^(1/16), 4 slots, mix 0.5)");
  CHECK(text({.variant = LigerVariant::kMamba2, .gate_normalizer = 16}) ==
        "window of 64 keys + gated recurrence (gate exp(−softplus(mean k)/16), mix 0.5)");
  CHECK(text({.variant = LigerVariant::kRetention, .gate_normalizer = 16}) ==
        "window of 64 keys + gated recurrence (gate σ(mean k)^(1/16), mix 0.5)");
  CHECK(text({.variant = LigerVariant::kRwkv6, .window_keys = 24}) ==
        "window of 24 keys + gated recurrence (gate exp(−exp(k)), mix 0.5)");
  const auto mixer = make_liger_mixer(kShape, {.window_keys = 24});
  CHECK(mixer->parameters().empty());
  REQUIRE(mixer->without_recurrence() != nullptr);
  CHECK(mixer->without_recurrence()->describe() == "window of 24 keys");
}

TEST_CASE("The state of Liger's family: a ring, and one set of matrices a KV head", "[liger]") {
  const auto bytes = [](const LigerMixerOptions& options) {
    return state_bytes_per_sequence({make_liger_mixer(kShape, options)}, 1000, at::kBFloat16);
  };
  const int64_t ring = 2 * 16 * 2 * 8 * 2;  // k and v, 16 keys of 2 heads of 8 in bf16
  CHECK(bytes({.window_keys = 16}) == ring + 4 * 2 * 8 * 8);
  CHECK(bytes({.variant = LigerVariant::kGsa, .window_keys = 16, .slots = 4}) ==
        ring + 2 * 4 * 2 * 4 * 8);
}

TEST_CASE("Impossible options of Liger's family are refused", "[liger]") {
  const auto refused = [](const LigerMixerOptions& options, const std::string& text) {
    check_refused<Error>([&] { make_liger_mixer(kShape, options); }, text);
  };
  refused({.window_keys = 0}, "liger-hgrn2 mixer: expected window_keys ≥ 1, found 0");
  refused({.variant = LigerVariant::kRwkv6, .gate_normalizer = 0},
          "liger-rwkv6 mixer: expected gate_normalizer > 0, found 0");
  refused({.variant = LigerVariant::kMamba2, .mix = -1},
          "liger-mamba2 mixer: expected mix from 0 to 1, found -1");
  refused({.lower_bound = 1}, "expected lower_bound at least 0 and below 1, found 1");
  refused({.variant = LigerVariant::kGsa, .slots = 3},
          "liger-gsa mixer: expected slots that divide the head size 8 or are a multiple of it, "
          "found 3");
}
