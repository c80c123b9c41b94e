#include "model/liger_mixer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "core/error.h"
#include "model/liger_gates.h"
#include "model/ring_and_matrices.h"
#include "model/slot_scores.h"
#include "ops/checks.h"
#include "ops/gated_scan/gated_scan.h"

namespace tigon {
namespace {

class LigerMixer : public Mixer {
 public:
  LigerMixer(const HeadShape& shape, const LigerMixerOptions& options)
      : shape_(shape), options_(options) {}

  at::Tensor forward(const MixerInput& input, MixerState* base_state) const override {
    auto* state = static_cast<RingAndMatrices*>(base_state);
    const at::Tensor near = attend(input, {.window_keys = options_.window_keys},
                                   state == nullptr ? nullptr : &state->ring);
    const Recurrence far = recurrence(input, state);
    for (size_t i = 0; i < far.states.size() && state != nullptr; ++i) {
      state->matrices[i].write(input, far.states[i]);
    }
    return at::lerp(near, far.out, options_.mix);
  }

  std::unique_ptr<MixerState> make_state(int64_t slots, at::ScalarType dtype,
                                         at::Device device) const override {
    const int64_t L = shape_.num_kv_heads, D = shape_.head_dim, M = options_.slots;
    std::vector<std::vector<int64_t>> matrices = {{L, D, D}};
    if (is_slotted()) matrices = {{L, M, D}, {L, M, D}};
    return std::make_unique<RingAndMatrices>(shape_, options_.window_keys, matrices, slots, dtype,
                                             options_.state_dtype, device);
  }

  at::Tensor mean_log_decay(const MixerInput& input) const override {
    return liger_log_gate(input.k.to(at::kFloat), options_).mean(0);
  }

  std::string kind() const override { return std::string(liger_variant_name(options_.variant)); }

  std::string describe() const override {
    return fmt::format("window of {} keys + gated recurrence (gate {}, mix {}){}",
                       options_.window_keys, liger_gate_text(options_), options_.mix,
                       state_dtype_text(options_.state_dtype));
  }

  std::shared_ptr<const Mixer> without_recurrence() const override {
    return make_window_mixer(shape_, {.window_keys = options_.window_keys});
  }

 private:
  struct Recurrence {
    at::Tensor out;  // [N, H, D]
    std::vector<at::Tensor> states;
  };

  bool is_slotted() const { return options_.variant == LigerVariant::kGsa; }

  Recurrence recurrence(const MixerInput& input, const RingAndMatrices* state) const {
    const at::ScalarType type = accumulation_type(input.q.scalar_type());
    const at::Tensor q = input.q.to(type), k = input.k.to(type);
    const at::Tensor log_gate = liger_log_gate(k, options_);
    const at::Tensor write = liger_write(k, log_gate, options_);
    const Segments& segments = input.batch.segments;
    const auto initial = [&](size_t i) -> std::optional<at::Tensor> {
      if (state == nullptr) return std::nullopt;
      return state->matrices[i].read(input);
    };
    // Features as wide as the activations: the scan's kernels take them so.
    const auto narrow = [&](const at::Tensor& x) { return x.to(input.q.scalar_type()); };
    if (!is_slotted()) {
      const GatedScanResult scan =
          gated_scan(narrow(q.softmax(-1)), narrow(write), input.v, log_gate, segments, initial(0));
      return {scan.out, {scan.state}};
    }
    const auto [scores, keys] = slot_scores(q, k, write, log_gate, segments, initial(0));
    const GatedScanResult scan = gated_scan(narrow(scores.softmax(-1)), narrow(write), input.v,
                                            log_gate, segments, initial(1));
    return {scan.out, {keys, scan.state}};
  }

  HeadShape shape_;
  LigerMixerOptions options_;
};

void check_options(const HeadShape& shape, const LigerMixerOptions& options) {
  const std::string_view name = liger_variant_name(options.variant);
  check_liger_numbers(name, options.window_keys, options.gate_normalizer, options.mix);
  if (!(options.lower_bound >= 0 && options.lower_bound < 1)) {
    fail("{} mixer: expected lower_bound at least 0 and below 1, found {}", name,
         options.lower_bound);
  }
  const int64_t M = options.slots, D = shape.head_dim;
  if (options.variant == LigerVariant::kGsa && (M < 1 || (D % M != 0 && M % D != 0))) {
    fail("{} mixer: expected slots that divide the head size {} or are a multiple of it, found {}",
         name, D, M);
  }
}

}  // namespace

std::string_view liger_variant_name(LigerVariant variant) {
  switch (variant) {
    case LigerVariant::kHgrn2:
      return "liger-hgrn2";
    case LigerVariant::kGsa:
      return "liger-gsa";
    case LigerVariant::kMamba2:
      return "liger-mamba2";
    case LigerVariant::kMlstm:
      return "liger-mlstm";
    case LigerVariant::kRetention:
      return "liger-retention";
    case LigerVariant::kRwkv6:
      break;
  }
  return "liger-rwkv6";
}

std::shared_ptr<const Mixer> make_liger_mixer(const HeadShape& shape,
                                              const LigerMixerOptions& options) {
  check_options(shape, options);
  return std::make_shared<LigerMixer>(shape, options);
}

}  // namespace tigon
