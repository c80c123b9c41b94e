#include "model/lolcats_mixer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "core/error.h"
#include "model/block_attention.h"
#include "model/parameter_init.h"
#include "model/ring_and_matrices.h"
#include "model/window_sums.h"
#include "ops/checks.h"
#include "ops/gated_scan/gated_scan.h"
#include "ops/rope/rope.h"

namespace tigon {
namespace {

using Options = LolcatsMixerOptions;
constexpr double kLeastFeature = 1e-12;

class LolcatsMixer : public Mixer {
 public:
  LolcatsMixer(const HeadShape& shape, const Options& options, at::Device device)
      : shape_(shape), options_(options) {
    const int64_t H = shape.num_heads, X = key_maps();
    const at::TensorOptions wide = at::device(device).dtype(at::kFloat);
    w_q_ = make_map(H, "w_q", device);
    w_k_ = make_map(X, "w_k", device);
    b_q_ = at::zeros({H}, wide);
    b_k_ = at::zeros({X}, wide);
    window_logit_ = at::full({H}, options.window_logit, wide);
  }

  at::Tensor forward(const MixerInput& input, MixerState* base_state) const override {
    auto* state = static_cast<RingAndMatrices*>(base_state);
    KeyValueRing::Seen seen{input.k, input.v, input.batch.positions, input.batch.segments};
    if (state != nullptr) seen = state->ring.read_and_remember(input);
    const at::ScalarType type = accumulation_type(input.q.scalar_type());
    const auto rotated = [&](const at::Tensor& x, const at::Tensor& positions) {
      return rope(x.to(type), positions, input.rotary.inverse_frequencies, input.rotary.scale);
    };
    const at::Tensor q = rotated(input.q, input.batch.positions);
    const at::Tensor k = rotated(seen.k, seen.positions), v = seen.v.to(type);
    std::vector<int64_t> past = input.batch.past_lengths;
    past.resize(input.batch.segments.count(), 0);  // none without a state
    const WindowPlaces places{input.batch.segments, seen.segments, past};
    const auto [near, near_mass] = window_sums(q, k, v, places, options_.window_keys, is_terrace());
    if (!has_recurrence_) return (near / near_mass.unsqueeze(-1)).to(input.q.scalar_type());

    const at::Tensor fq = features(q, w_q_, b_q_), fk = features(k, w_k_, b_k_);
    std::optional<at::Tensor> initial;
    if (state != nullptr) initial = state->matrices[0].read(input);
    const auto [far, last] = is_terrace() ? before_blocks(fq, fk, v, places, initial)
                                          : before_window(fq, fk, seen.v, places, initial);
    if (state != nullptr) state->matrices[0].write(input, last);
    const at::Tensor g = window_logit_.to(type).sigmoid().view({1, -1, 1});
    const at::Tensor weighted =  // [N, H, D+1]
        g * at::cat({near, near_mass.unsqueeze(-1)}, -1) +
        (options_.has_affine_factors ? (1 - g) * far : far);
    const int64_t D = shape_.head_dim;
    return (weighted.narrow(2, 0, D) / weighted.narrow(2, D, 1)).to(input.q.scalar_type());
  }

  std::unique_ptr<MixerState> make_state(int64_t slots, at::ScalarType dtype,
                                         at::Device device) const override {
    const int64_t w = options_.window_keys;
    std::vector<std::vector<int64_t>> matrices;
    if (has_recurrence_) matrices = {{key_maps(), feature_size(), shape_.head_dim + 1}};
    return std::make_unique<RingAndMatrices>(shape_, is_terrace() ? 2 * w - 1 : w, matrices, slots,
                                             dtype, options_.state_dtype, device);
  }

  at::Tensor mean_log_decay(const MixerInput& input) const override {
    if (!has_recurrence_) return {};
    return at::zeros({key_maps(), feature_size()}, input.k.options().dtype(at::kFloat));
  }

  std::string kind() const override { return has_recurrence_ ? "lolcats" : "window"; }

  std::string describe() const override {
    const std::string window = is_terrace()
                                   ? fmt::format("terrace window of {} to {} keys",
                                                 options_.window_keys + 1, 2 * options_.window_keys)
                                   : fmt::format("window of {} keys", options_.window_keys);
    if (!has_recurrence_) return window;
    return fmt::format("{} + linear attention ({} features of {}, one denominator){}", window,
                       feature_size(), is_hedgehog() ? "hedgehog" : "T2R",
                       state_dtype_text(options_.state_dtype));
  }

  std::vector<std::pair<std::string, at::Tensor>> parameters() const override {
    if (!has_recurrence_) return {};
    std::vector<std::pair<std::string, at::Tensor>> all = {{"w_q", w_q_}, {"w_k", w_k_}};
    if (!is_hedgehog()) {
      all.emplace_back("b_q", b_q_);
      all.emplace_back("b_k", b_k_);
    }
    all.emplace_back("window_logit", window_logit_);
    return all;
  }

  std::shared_ptr<const Mixer> without_recurrence() const override {
    if (!has_recurrence_) return nullptr;
    if (!is_terrace()) return make_window_mixer(shape_, {.window_keys = options_.window_keys});
    auto window = std::make_shared<LolcatsMixer>(*this);
    window->has_recurrence_ = false;
    return window;
  }

 private:
  bool is_terrace() const { return options_.window_form == Options::WindowForm::kTerrace; }
  bool is_hedgehog() const { return options_.feature_map == Options::FeatureMap::kHedgehog; }
  int64_t feature_size() const { return (is_hedgehog() ? 2 : 1) * options_.feature_dim; }
  int64_t key_maps() const {
    return options_.has_key_map_per_query ? shape_.num_heads : shape_.num_kv_heads;
  }

  at::Tensor make_map(int64_t heads, const char* name, at::Device device) const {
    const int64_t D = shape_.head_dim, f = options_.feature_dim;
    if (options_.init == Options::Init::kIdentity) {
      return at::eye(D, f, at::device(device).dtype(at::kFloat)).repeat({heads, 1, 1});
    }
    return uniform_parameter({heads, D, f}, std::sqrt(6 / static_cast<double>(D * f)),
                             derive_seed(options_.seed, name), device);
  }

  /// x [N, heads, D], w [maps, D, f], b [maps], maps a multiple of heads → [N, maps, features].
  at::Tensor features(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b) const {
    const int64_t heads = x.size(1), maps = w.size(0), f = w.size(2);
    const at::Tensor weights =  // [heads, D, maps/heads·f]
        w.to(x.scalar_type()).unflatten(0, {heads, maps / heads}).transpose(1, 2).flatten(2, 3);
    const at::Tensor z =
        x.transpose(0, 1).matmul(weights).transpose(0, 1).reshape({x.size(0), maps, f});
    const at::Tensor mapped = is_hedgehog() ? at::cat({z.softmax(-1), (-z).softmax(-1)}, -1)
                                            : (z + b.to(x.scalar_type()).view({1, -1, 1})).relu();
    return mapped.clamp_min(kLeastFeature);
  }

  struct Far {
    at::Tensor sums;   // [N, H, D+1], the last column the mass
    at::Tensor state;  // [S, maps, features, D+1]
  };

  /// Over the keys that have left a sliding window. Features are as wide as the activations here:
  /// the scan's kernels take them so.
  Far before_window(const at::Tensor& fq, const at::Tensor& fk, const at::Tensor& v,
                    const WindowPlaces& places, const std::optional<at::Tensor>& initial) const {
    const at::ScalarType narrow = v.scalar_type();
    const GatedScanResult scan = gated_scan(
        fq.to(narrow), fk.to(narrow), v, at::zeros({1, 1, 1}, fq.options()), places.queries,
        initial, {.normalizer = true, .delay = options_.window_keys, .key_segments = places.keys});
    return {scan.out, scan.state};
  }

  /// Over the blocks that have left a terrace.
  Far before_blocks(const at::Tensor& fq, const at::Tensor& fk, const at::Tensor& v,
                    const WindowPlaces& places, const std::optional<at::Tensor>& initial) const {
    const BlockAttentionResult result =
        block_attention(fq, fk, v, places, options_.window_keys, initial);
    return {result.out, result.state};
  }

  HeadShape shape_;
  Options options_;
  bool has_recurrence_ = true;
  at::Tensor w_q_, w_k_, b_q_, b_k_;  // [H, D, f], [X, D, f], [H], [X]
  at::Tensor window_logit_;           // [H]
};

}  // namespace

std::shared_ptr<const Mixer> make_lolcats_mixer(const HeadShape& shape, const Options& options,
                                                at::Device device) {
  if (options.window_keys < 1) {
    fail("lolcats mixer: expected window_keys ≥ 1, found {}", options.window_keys);
  }
  if (options.feature_dim < 1) {
    fail("lolcats mixer: expected feature_dim ≥ 1, found {}", options.feature_dim);
  }
  return std::make_shared<LolcatsMixer>(shape, options, device);
}

}  // namespace tigon
