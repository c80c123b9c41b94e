#include "model/liger_ablation_mixer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "core/random.h"
#include "model/liger_gates.h"
#include "model/parameter_init.h"
#include "model/ring_and_matrices.h"
#include "ops/checks.h"
#include "ops/gated_scan/gated_scan.h"

namespace tigon {
namespace {

using Options = LigerAblationMixerOptions;
using GateSource = Options::GateSource;
using FeatureMap = Options::FeatureMap;

/// x [N, heads, D] w [heads, D, D] → [N, heads, D].
at::Tensor times_per_head(const at::Tensor& x, const at::Tensor& w) {
  return x.transpose(0, 1).matmul(w.to(x.scalar_type())).transpose(0, 1);
}

class LigerAblationMixer : public Mixer {
 public:
  LigerAblationMixer(const HeadShape& shape, const Options& options, at::Device device)
      : shape_(shape), options_(options) {
    const int64_t H = shape.num_heads, L = shape.num_kv_heads, D = shape.head_dim;
    if (options.gate_source == GateSource::kLearned) {
      w_gate_ = random({L, D, D}, 1 / std::sqrt(static_cast<double>(D)), "w_gate", device);
    }
    if (options.feature_map == FeatureMap::kHedgehog) {
      w_q_ = make_map(H, "w_q", device);
      w_k_ = make_map(L, "w_k", device);
    }
  }

  at::Tensor forward(const MixerInput& input, MixerState* base_state) const override {
    auto* state = static_cast<RingAndMatrices*>(base_state);
    const at::Tensor near = attend(input, {.window_keys = options_.window_keys},
                                   state == nullptr ? nullptr : &state->ring);
    const at::ScalarType type = accumulation_type(input.q.scalar_type());
    std::optional<at::Tensor> initial;
    if (state != nullptr) initial = state->matrices[0].read(input);
    // Features as wide as the activations: the scan's kernels take them so.
    const auto narrow = [&](const at::Tensor& x) { return x.to(input.q.scalar_type()); };
    const GatedScanResult far = gated_scan(narrow(query_features(input.q.to(type))),
                                           narrow(features(input.k.to(type), w_k_)), input.v,
                                           log_gate(input), input.batch.segments, initial);
    if (state != nullptr) state->matrices[0].write(input, far.state);
    return at::lerp(near, far.out, options_.mix);
  }

  std::unique_ptr<MixerState> make_state(int64_t slots, at::ScalarType dtype,
                                         at::Device device) const override {
    const int64_t L = shape_.num_kv_heads, D = shape_.head_dim;
    const std::vector<std::vector<int64_t>> matrices = {{L, is_hedgehog() ? 2 * D : D, D}};
    return std::make_unique<RingAndMatrices>(shape_, options_.window_keys, matrices, slots, dtype,
                                             options_.state_dtype, device);
  }

  at::Tensor mean_log_decay(const MixerInput& input) const override {
    const at::Tensor mean = log_gate(input).to(at::kFloat).mean(0);
    return mean.expand({shape_.num_kv_heads, mean.size(1)});
  }

  std::string kind() const override { return "liger-ablation"; }

  std::string describe() const override {
    return fmt::format("window of {} keys + linear recurrence ({}, {}, mix {}){}",
                       options_.window_keys, gate_text(), map_text(), options_.mix,
                       state_dtype_text(options_.state_dtype));
  }

  std::vector<std::pair<std::string, at::Tensor>> parameters() const override {
    std::vector<std::pair<std::string, at::Tensor>> all;
    if (w_gate_.defined()) all.emplace_back("w_gate", w_gate_);
    if (w_q_.defined()) all.emplace_back("w_q", w_q_);
    if (w_k_.defined()) all.emplace_back("w_k", w_k_);
    return all;
  }

  std::shared_ptr<const Mixer> without_recurrence() const override {
    return make_window_mixer(shape_, {.window_keys = options_.window_keys});
  }

 private:
  bool is_hedgehog() const { return options_.feature_map == FeatureMap::kHedgehog; }

  at::Tensor random(at::IntArrayRef shape, double bound, const char* name,
                    at::Device device) const {
    return uniform_parameter(shape, bound, derive_seed(options_.seed, name), device);
  }

  at::Tensor make_map(int64_t heads, const char* name, at::Device device) const {
    const int64_t D = shape_.head_dim;
    if (options_.map_init == Options::Init::kRandom) {
      return random({heads, D, D}, std::sqrt(6.0) / static_cast<double>(D), name, device);
    }
    return at::eye(D, at::device(device).dtype(at::kFloat)).repeat({heads, 1, 1});
  }

  /// x [N, heads, D] → [N, heads, D or 2D].
  at::Tensor features(const at::Tensor& x, const at::Tensor& w) const {
    switch (options_.feature_map) {
      case FeatureMap::kSoftmax:
        return x.softmax(-1);
      case FeatureMap::kNone:
        return x;
      case FeatureMap::kRelu:
        return x.relu();
      case FeatureMap::kElu:
        return at::elu(x) + 1;
      case FeatureMap::kHedgehog:
        break;
    }
    const at::Tensor z = times_per_head(x, w);
    return at::cat({z.softmax(-1), (-z).softmax(-1)}, -1);
  }

  at::Tensor query_features(const at::Tensor& q) const {
    const at::Tensor mapped = features(q, w_q_);
    const bool sums_to_one = options_.feature_map == FeatureMap::kSoftmax || is_hedgehog();
    return sums_to_one ? mapped : mapped / std::sqrt(static_cast<double>(shape_.head_dim));
  }

  /// log a, [N, Hkv, D or 2D]; [1, 1, 1] where nothing fades.
  at::Tensor log_gate(const MixerInput& input) const {
    const at::ScalarType type = accumulation_type(input.q.scalar_type());
    const auto fading = [&](const at::Tensor& source) {
      const at::Tensor gate = at::log_sigmoid(source.to(type)) / options_.gate_normalizer;
      return is_hedgehog() ? at::cat({gate, gate}, -1) : gate;
    };
    switch (options_.gate_source) {
      case GateSource::kKeys:
        return fading(input.k);
      case GateSource::kQueries:
        return fading(input.q.to(type).unflatten(1, {shape_.num_kv_heads, -1}).mean(2));
      case GateSource::kValues:
        return fading(input.v);
      case GateSource::kLearned:
        return fading(times_per_head(input.k.to(type), w_gate_));
      case GateSource::kNone:
        break;
    }
    return at::zeros({1, 1, 1}, input.q.options().dtype(type));
  }

  std::string gate_text() const {
    if (options_.gate_source == GateSource::kNone) return "no gate";
    const char* const source = options_.gate_source == GateSource::kKeys      ? "k"
                               : options_.gate_source == GateSource::kQueries ? "mean q"
                               : options_.gate_source == GateSource::kValues  ? "v"
                                                                              : "k w";
    return fmt::format("gate σ({})^(1/{})", source, options_.gate_normalizer);
  }

  const char* map_text() const {
    switch (options_.feature_map) {
      case FeatureMap::kSoftmax:
        return "softmax features";
      case FeatureMap::kNone:
        return "no feature map";
      case FeatureMap::kRelu:
        return "ReLU features";
      case FeatureMap::kElu:
        return "elu + 1 features";
      case FeatureMap::kHedgehog:
        break;
    }
    return "hedgehog features";
  }

  HeadShape shape_;
  Options options_;
  at::Tensor w_gate_, w_q_, w_k_;  // undefined where there are none
};

}  // namespace

std::shared_ptr<const Mixer> make_liger_ablation_mixer(const HeadShape& shape,
                                                       const LigerAblationMixerOptions& options,
                                                       at::Device device) {
  check_liger_numbers("liger-ablation", options.window_keys, options.gate_normalizer, options.mix);
  return std::make_shared<LigerAblationMixer>(shape, options, device);
}

}  // namespace tigon
