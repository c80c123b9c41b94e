#include "model/supra_mixer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <tuple>

#include "core/error.h"
#include "model/parameter_init.h"
#include "model/recurrent_matrices.h"
#include "ops/checks.h"
#include "ops/gated_scan/gated_scan.h"
#include "ops/rope/rope.h"

namespace tigon {
namespace {

using Options = SupraMixerOptions;
constexpr double kLeastMass = 1e-6;  // of the denominator

class SupraState : public MixerState {
 public:
  SupraState(int64_t heads, int64_t head_dim, bool has_denominator, int64_t slots,
             at::ScalarType dtype, at::Device device) {
    matrices.emplace_back(slots, std::vector<int64_t>{heads, head_dim, head_dim}, dtype, device);
    if (has_denominator) {
      matrices.emplace_back(slots, std::vector<int64_t>{heads, head_dim, 1}, dtype, device);
    }
  }

  std::vector<at::Tensor> tensors() const override {
    std::vector<at::Tensor> all;
    for (const RecurrentMatrices& set : matrices) all.push_back(set.tensor());
    return all;
  }

  void reset(int64_t slot) override {
    for (RecurrentMatrices& set : matrices) set.reset(slot);
  }

  std::vector<RecurrentMatrices> matrices;  // S [slots, heads, D, D] and z [slots, heads, D, 1]
};

class SupraMixer : public Mixer {
 public:
  SupraMixer(const HeadShape& shape, const Options& options, at::Device device)
      : shape_(shape), options_(options) {
    const int64_t H = shape.num_heads, L = shape.num_kv_heads, D = shape.head_dim;
    std::tie(w_q_, b_q_) = make_map(H, "w_q", "b_q", device);
    std::tie(w_k_, b_k_) = L == H ? std::pair(w_q_, b_q_) : make_map(L, "w_k", "b_k", device);
    log_slope_ = at::tensor(first_slopes(), at::kDouble).log().to(device);
    if (options.decay == Options::Decay::kLearned) log_slope_ = log_slope_.to(at::kFloat);
    const at::TensorOptions wide = at::device(device).dtype(at::kFloat);
    if (options.has_affine) {
      norm_weight_ = at::ones({H * D}, wide);
      norm_bias_ = at::zeros({H * D}, wide);
    }
  }

  at::Tensor forward(const MixerInput& input, MixerState* base_state) const override {
    auto* state = static_cast<SupraState*>(base_state);
    const at::ScalarType type = accumulation_type(input.q.scalar_type());
    const at::Tensor q = map(input.q.to(type), w_q_, b_q_);
    const at::Tensor k =
        map(input.k.to(type), w_k_, b_k_) / std::sqrt(static_cast<double>(shape_.head_dim));
    const auto rotate = [&](const at::Tensor& x) {
      return rope(x, input.batch.positions, input.rotary.inverse_frequencies, input.rotary.scale);
    };
    // Features as wide as the activations: the scan's kernels take them so.
    const auto scan = [&](const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& v,
                          size_t part) {
      const at::ScalarType narrow = v.scalar_type();
      std::optional<at::Tensor> initial;
      if (state != nullptr) initial = state->matrices[part].read(input);
      const GatedScanResult result =
          gated_scan(queries.to(narrow), keys.to(narrow), v, log_gate(type), input.batch.segments,
                     initial, {.state_heads = state_heads()});
      if (state != nullptr) state->matrices[part].write(input, result.state);
      return result.out.to(type);
    };
    at::Tensor out = scan(rotate(q), rotate(k), input.v, 0);
    if (has_denominator()) {
      const at::Tensor mass = scan(q, k, at::ones_like(input.v.narrow(2, 0, 1)), 1);  // [N, H, 1]
      out = out / mass.clamp_min(kLeastMass);
    }
    if (options_.normalizer != Options::Normalizer::kDenominator) out = norm(out);
    return out.to(input.q.scalar_type());
  }

  std::unique_ptr<MixerState> make_state(int64_t slots, at::ScalarType /*dtype*/,
                                         at::Device device) const override {
    return std::make_unique<SupraState>(state_heads(), shape_.head_dim, has_denominator(), slots,
                                        options_.state_dtype, device);
  }

  at::Tensor mean_log_decay(const MixerInput&) const override {
    return log_gate(at::kFloat).squeeze(0).expand({state_heads(), 1});
  }

  std::string kind() const override { return "supra"; }

  std::string describe() const override {
    const char* const maps =
        options_.maps == Options::Maps::kAcrossHeads ? "maps across heads" : "maps per head";
    return fmt::format("linear recurrence ({}, {}, {}{}){}", maps, decay_text(), normalizer_text(),
                       options_.has_affine ? " with weights" : "",
                       state_dtype_text(options_.state_dtype));
  }

  std::vector<std::pair<std::string, at::Tensor>> parameters() const override {
    std::vector<std::pair<std::string, at::Tensor>> all = {{"w_q", w_q_}, {"b_q", b_q_}};
    if (shape_.num_kv_heads != shape_.num_heads) {
      all.emplace_back("w_k", w_k_);
      all.emplace_back("b_k", b_k_);
    }
    if (options_.decay == Options::Decay::kLearned) all.emplace_back("log_slope", log_slope_);
    if (options_.has_affine) {
      all.emplace_back("norm_weight", norm_weight_);
      all.emplace_back("norm_bias", norm_bias_);
    }
    return all;
  }

 private:
  bool has_denominator() const { return options_.normalizer != Options::Normalizer::kGroupNorm; }

  bool decays() const { return options_.decay != Options::Decay::kNone; }
  /// Without decay the query heads of a group share their state.
  int64_t state_heads() const { return decays() ? shape_.num_heads : shape_.num_kv_heads; }

  const char* decay_text() const {
    switch (options_.decay) {
      case Options::Decay::kPublished:
        return "published decays";
      case Options::Decay::kRetention:
        return "decays of retention";
      case Options::Decay::kNone:
        return "no decay";
      case Options::Decay::kLearned:
        break;
    }
    return "learned decays";
  }

  const char* normalizer_text() const {
    switch (options_.normalizer) {
      case Options::Normalizer::kGroupNorm:
        return "norm over each head";
      case Options::Normalizer::kDenominator:
        return "denominator";
      case Options::Normalizer::kBoth:
        break;
    }
    return "denominator and norm over each head";
  }

  std::vector<double> first_slopes() const {
    std::vector<double> slopes = supra_slopes(shape_.num_heads);
    if (options_.decay == Options::Decay::kRetention) {
      for (size_t h = 0; h < slopes.size(); ++h) {
        slopes[h] = -std::log1p(-std::exp2(-5 - static_cast<double>(h)));
      }
    }
    return slopes;
  }

  /// The log decay of each query head, [1, H, 1], or of all, [1, 1, 1].
  at::Tensor log_gate(at::ScalarType type) const {
    if (!decays()) return at::zeros({1, 1, 1}, log_slope_.options().dtype(type));
    return -log_slope_.to(type).exp().view({1, -1, 1});
  }

  /// Weight and bias of a map over this many heads.
  std::pair<at::Tensor, at::Tensor> make_map(int64_t heads, const char* weight_name,
                                             const char* bias_name, at::Device device) const {
    const int64_t D = shape_.head_dim;
    const bool is_per_head = options_.maps == Options::Maps::kPerHead;
    const int64_t size = is_per_head ? D : heads * D;
    const std::vector<int64_t> weight =
        is_per_head ? std::vector<int64_t>{heads, D, D} : std::vector<int64_t>{size, size};
    const std::vector<int64_t> bias =
        is_per_head ? std::vector<int64_t>{heads, D} : std::vector<int64_t>{size};
    if (options_.init == Options::Init::kIdentity) {
      const at::TensorOptions wide = at::device(device).dtype(at::kFloat);
      return {at::eye(size, wide).expand(weight).clone(), at::zeros(bias, wide)};
    }
    const double bound = 1 / std::sqrt(static_cast<double>(size));
    return {uniform_parameter(weight, bound, derive_seed(options_.seed, weight_name), device),
            uniform_parameter(bias, bound, derive_seed(options_.seed, bias_name), device)};
  }

  /// x [N, heads, D] → ReLU(w x + b), the same shape.
  at::Tensor map(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) const {
    const at::Tensor w = weight.to(x.scalar_type()), b = bias.to(x.scalar_type());
    if (options_.maps == Options::Maps::kAcrossHeads) {
      return at::linear(x.flatten(1), w, b).relu().view_as(x);
    }
    return (x.transpose(0, 1).matmul(w.mT()).transpose(0, 1) + b).relu();
  }

  at::Tensor norm(const at::Tensor& x) const {
    const at::Tensor normed = at::layer_norm(x, {x.size(2)}, {}, {}, options_.norm_eps);
    if (!options_.has_affine) return normed;
    const auto per_channel = [&](const at::Tensor& parameter) {
      return parameter.to(x.scalar_type()).view({1, x.size(1), x.size(2)});
    };
    return normed * per_channel(norm_weight_) + per_channel(norm_bias_);
  }

  HeadShape shape_;
  Options options_;
  at::Tensor w_q_, b_q_, w_k_, b_k_;
  at::Tensor log_slope_;                // [H]; float32 and a parameter if learned, else float64
  at::Tensor norm_weight_, norm_bias_;  // undefined without has_affine
};

}  // namespace

std::vector<double> supra_slopes(int64_t heads) {
  const auto power = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(heads)));
  std::vector<double> slopes;
  const auto slope = [](int64_t i, int64_t count) {
    return std::exp2(-8.0 * static_cast<double>(i + 1) / static_cast<double>(count));
  };
  for (int64_t i = 0; i < power; ++i) slopes.push_back(slope(i, power));
  for (int64_t i = 0; i < heads - power; ++i) slopes.push_back(slope(2 * i, 2 * power));
  return slopes;
}

std::shared_ptr<const Mixer> make_supra_mixer(const HeadShape& shape, const Options& options,
                                              at::Device device) {
  if (!(options.norm_eps > 0)) {
    fail("supra mixer: expected norm_eps > 0, found {}", options.norm_eps);
  }
  if (options.has_affine && options.normalizer == Options::Normalizer::kDenominator) {
    fail("supra mixer: expected a norm over each head for its weights, found a denominator alone");
  }
  return std::make_shared<SupraMixer>(shape, options, device);
}

}  // namespace tigon
