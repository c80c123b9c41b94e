#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "core/error.h"
#include "model/decode_inputs.h"
#include "model/key_value_ring.h"
#include "model/recurrent_matrices.h"
#include "model/tigon_calibration.h"
#include "ops/joint_attention/joint_attention.h"
#include "ops/joint_attention/joint_attention_parts.h"
#include "ops/joint_decode/joint_decode.h"

namespace tigon {
namespace {

// Of what is read from the attention input, times 1/√M: at one learning rate these weights then
// move it as fast, whatever the model's width, as the other parameters move the feature maps.
constexpr double kLogitScale = 16;

int64_t feature_channels(const HeadShape& shape, const TigonMixerOptions& options) {
  return options.feature_rank > 0
             ? joint_feature_channels(options.feature_rank, /*second_order=*/true)
             : joint_feature_channels(shape.head_dim, /*second_order=*/false);
}

class TigonState : public MixerState {
 public:
  TigonState(const HeadShape& shape, const TigonMixerOptions& options, int64_t slots,
             at::ScalarType dtype, at::Device device)
      : ring(shape, options.window_keys, /*sinks=*/0, slots, dtype, device),
        matrices(slots, {shape.num_kv_heads, feature_channels(shape, options), shape.head_dim + 1},
                 options.state_dtype, device),
        layout_{.sinks = 0, .period = options.window_keys},
        log_importance_(at::zeros({slots, options.window_keys, shape.num_kv_heads},
                                  at::device(device).dtype(at::kFloat))) {}

  std::vector<at::Tensor> tensors() const override {
    std::vector<at::Tensor> all = ring.tensors();
    all.push_back(log_importance_);
    all.push_back(matrices.tensor());
    return all;
  }

  void reset(int64_t slot) override {
    const at::NoGradGuard no_grad;
    ring.reset(slot);
    log_importance_.select(0, slot).zero_();
    matrices.reset(slot);
  }

  /// log_importance [N, Hkv] of the batch's keys → [M, Hkv] of all keys that its queries need; then
  /// remembers the batch's.
  at::Tensor read_and_remember(const MixerInput& input, const at::Tensor& log_importance) {
    const at::Tensor seen = input.rings->reads(layout_).get(log_importance_, log_importance);
    const at::NoGradGuard no_grad;
    input.rings->writes(layout_).put(log_importance_, log_importance);
    return seen;
  }

  const at::Tensor& log_importance() const { return log_importance_; }

  KeyValueRing ring;
  RecurrentMatrices matrices;  // [slots, Hkv, E, D+1]

 private:
  RingLayout layout_;          // of the ring
  at::Tensor log_importance_;  // [slots, window_keys, Hkv] float32
};

class TigonMixer : public Mixer {
 public:
  TigonMixer(const HeadShape& shape, int64_t hidden_size, const TigonMixerOptions& options,
             at::Device device)
      : shape_(shape), options_(options), logit_scale_(kLogitScale / std::sqrt(hidden_size)) {
    const int64_t H = shape.num_heads, L = shape.num_kv_heads, D = shape.head_dim;
    const at::TensorOptions wide = at::device(device).dtype(at::kFloat);
    maps_.second_order = options.feature_rank > 0;
    const int64_t R = maps_.second_order ? options.feature_rank : D;
    const at::Tensor map = at::eye(D, R, wide) * (maps_.second_order ? std::pow(D, -0.25) : 1);
    maps_.w_q = map.repeat({H, 1, 1});
    maps_.b_q = at::zeros({H, R}, wide);
    maps_.w_k = map.repeat({L, 1, 1});
    maps_.b_k = at::zeros({L, R}, wide);
    const int64_t E = feature_channels(shape, options);
    maps_.log_tau = at::full({L, E}, std::log(options.decay_time), wide);
    w_importance_ = at::zeros({hidden_size, L}, wide);
    w_mix_ = at::zeros({hidden_size, H}, wide);
    b_mix_ = at::zeros({H}, wide);
  }

  at::Tensor forward(const MixerInput& input, MixerState* base_state) const override {
    // One product, in the dtype of the model.
    const at::Tensor weights = at::cat({w_importance_, w_mix_}, 1) * logit_scale_;
    const at::Tensor logits =
        input.hidden.matmul(weights.to(input.hidden.scalar_type())).to(at::kFloat);
    const at::Tensor log_importance = logits.narrow(1, 0, shape_.num_kv_heads);  // [N, Hkv]
    const at::Tensor log_mix =
        logits.narrow(1, shape_.num_kv_heads, shape_.num_heads) + b_mix_;  // [N, H]
    KeyValueRing::Seen seen{input.k, input.v, input.batch.positions, input.batch.segments};
    if (base_state == nullptr) return run(input, seen, log_importance, log_mix, {}).out;
    auto& state = static_cast<TigonState&>(*base_state);
    if (is_decode_step(input)) {
      return joint_decode(decode_tokens(input), {log_importance, log_mix}, maps_,
                          decode_state(input, state.ring, state.matrices.tensor()),
                          state.log_importance());
    }
    seen = state.ring.read_and_remember(input);
    const JointAttentionResult result =
        run(input, seen, state.read_and_remember(input, log_importance), log_mix,
            state.matrices.read(input));
    state.matrices.write(input, result.state);
    return result.out;
  }

  std::unique_ptr<MixerState> make_state(int64_t slots, at::ScalarType dtype,
                                         at::Device device) const override {
    return std::make_unique<TigonState>(shape_, options_, slots, dtype, device);
  }

  void calibrate(const MixerInput& input) const override {
    const at::NoGradGuard no_grad;
    const TigonCalibration found = calibrate_tigon(input, maps_, options_.window_keys);
    at::Tensor(maps_.w_q).copy_(found.w_q);
    at::Tensor(maps_.w_k).copy_(found.w_k);
    at::Tensor(maps_.b_k).copy_(found.b_k);
    at::Tensor(b_mix_).copy_(found.b_mix);
  }

  at::Tensor mean_log_decay(const MixerInput&) const override {
    return joint_log_decay(maps_.log_tau, at::kFloat);
  }

  std::string kind() const override { return "tigon"; }

  std::string describe() const override {
    const std::string features =
        maps_.second_order
            ? fmt::format(" (features of second order, rank {})", options_.feature_rank)
            : "";
    return fmt::format("window of {} keys + linear recurrence{} under one denominator{}",
                       options_.window_keys, features, state_dtype_text(options_.state_dtype));
  }

  std::vector<std::pair<std::string, at::Tensor>> parameters() const override {
    return {{"w_q", maps_.w_q}, {"b_q", maps_.b_q},         {"w_k", maps_.w_k},
            {"b_k", maps_.b_k}, {"log_tau", maps_.log_tau}, {"w_importance", w_importance_},
            {"w_mix", w_mix_},  {"b_mix", b_mix_}};
  }

  std::shared_ptr<const Mixer> without_recurrence() const override {
    return make_window_mixer(shape_, {.window_keys = options_.window_keys});
  }

 private:
  JointAttentionResult run(const MixerInput& input, const KeyValueRing::Seen& seen,
                           const at::Tensor& log_importance, const at::Tensor& log_mix,
                           const std::optional<at::Tensor>& initial_state) const {
    return joint_attention({.q = input.q,
                            .k = seen.k,
                            .v = seen.v,
                            .key_positions = seen.positions,
                            .inverse_frequencies = input.rotary.inverse_frequencies,
                            .log_importance = log_importance,
                            .log_mix = log_mix},
                           maps_, input.batch.segments, seen.segments,
                           {.window_keys = options_.window_keys, .rope_scale = input.rotary.scale},
                           initial_state);
  }

  HeadShape shape_;
  TigonMixerOptions options_;
  double logit_scale_;
  JointAttentionParameters maps_;
  at::Tensor w_importance_, w_mix_, b_mix_;  // [M, Hkv], [M, H], [H]
};

}  // namespace

std::shared_ptr<const Mixer> make_tigon_mixer(const HeadShape& shape, int64_t hidden_size,
                                              const TigonMixerOptions& options, at::Device device) {
  if (options.window_keys < 1) {
    fail("tigon mixer: expected window_keys ≥ 1, found {}", options.window_keys);
  }
  if (!(options.decay_time > 0)) {
    fail("tigon mixer: expected decay_time > 0, found {}", options.decay_time);
  }
  if (options.feature_rank < 0 || options.feature_rank > shape.head_dim) {
    fail("tigon mixer: expected feature_rank from 0 to the head's {} numbers, found {}",
         shape.head_dim, options.feature_rank);
  }
  return std::make_shared<TigonMixer>(shape, hidden_size, options, device);
}

}  // namespace tigon
