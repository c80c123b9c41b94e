#include <ATen/ATen.h>
#include <fmt/format.h>

#include "model/decode_inputs.h"
#include "model/liger_gates.h"
#include "model/ring_and_matrices.h"
#include "ops/liger_attention/liger_attention.h"
#include "ops/liger_decode/liger_decode.h"

namespace tigon {
namespace {

class LigerGlaMixer : public Mixer {
 public:
  LigerGlaMixer(const HeadShape& shape, const LigerGlaMixerOptions& options)
      : shape_(shape), options_(options) {}

  at::Tensor forward(const MixerInput& input, MixerState* base_state) const override {
    if (base_state == nullptr) {
      return run(input, {input.k, input.v, input.batch.positions, input.batch.segments}, {}).out;
    }
    auto& state = static_cast<RingAndMatrices&>(*base_state);
    RecurrentMatrices& matrices = state.matrices.front();  // [slots, Hkv, D, D]
    if (is_decode_step(input)) {
      return liger_decode(decode_tokens(input), decode_state(input, state.ring, matrices.tensor()),
                          {.gate_normalizer = options_.gate_normalizer, .mix = options_.mix});
    }
    const LigerAttentionResult result =
        run(input, state.ring.read_and_remember(input), matrices.read(input));
    matrices.write(input, result.state);
    return result.out;
  }

  std::unique_ptr<MixerState> make_state(int64_t slots, at::ScalarType dtype,
                                         at::Device device) const override {
    const std::vector<std::vector<int64_t>> matrices = {
        {shape_.num_kv_heads, shape_.head_dim, shape_.head_dim}};
    return std::make_unique<RingAndMatrices>(shape_, options_.window_keys, matrices, slots, dtype,
                                             options_.state_dtype, device);
  }

  at::Tensor mean_log_decay(const MixerInput& input) const override {
    return at::log_sigmoid(input.k.to(at::kFloat)).mean(0) / options_.gate_normalizer;
  }

  std::string kind() const override { return "liger-gla"; }

  std::string describe() const override {
    return fmt::format("window of {} keys + gated recurrence (gate/{}, mix {}){}",
                       options_.window_keys, options_.gate_normalizer, options_.mix,
                       state_dtype_text(options_.state_dtype));
  }

  std::shared_ptr<const Mixer> without_recurrence() const override {
    return make_window_mixer(shape_, {.window_keys = options_.window_keys});
  }

 private:
  LigerAttentionResult run(const MixerInput& input, const KeyValueRing::Seen& seen,
                           const std::optional<at::Tensor>& initial_state) const {
    return liger_attention(input.q, seen.k, seen.v, seen.positions,
                           input.rotary.inverse_frequencies, input.batch.segments, seen.segments,
                           {.window_keys = options_.window_keys,
                            .gate_normalizer = options_.gate_normalizer,
                            .mix = options_.mix,
                            .rope_scale = input.rotary.scale},
                           initial_state);
  }

  HeadShape shape_;
  LigerGlaMixerOptions options_;
};

}  // namespace

std::shared_ptr<const Mixer> make_liger_gla_mixer(const HeadShape& shape,
                                                  const LigerGlaMixerOptions& options) {
  check_liger_numbers("liger-gla", options.window_keys, options.gate_normalizer, options.mix);
  return std::make_shared<LigerGlaMixer>(shape, options);
}

}  // namespace tigon
