#include <fmt/format.h>

#include "core/error.h"
#include "model/key_value_ring.h"

namespace tigon {
namespace {

class SoftmaxMixer : public Mixer {
 public:
  SoftmaxMixer(const HeadShape& shape, int64_t window_keys)
      : shape_(shape), window_keys_(window_keys) {}

  at::Tensor forward(const MixerInput& input, MixerState* state) const override {
    return attend(input, {.window_keys = window_keys_}, static_cast<KeyValueRing*>(state));
  }

  std::unique_ptr<MixerState> make_state(int64_t slots, at::ScalarType dtype,
                                         at::Device device) const override {
    return std::make_unique<KeyValueRing>(shape_, window_keys_, /*sinks=*/0, slots, dtype, device);
  }

  std::string kind() const override { return "softmax"; }

  std::string describe() const override {
    if (window_keys_ == 0) return "softmax over all keys";
    return fmt::format("softmax over a sliding window of {} keys", window_keys_);
  }

 private:
  HeadShape shape_;
  int64_t window_keys_;
};

}  // namespace

std::shared_ptr<const Mixer> make_softmax_mixer(const HeadShape& shape, int64_t window_keys) {
  if (window_keys < 0) fail("softmax mixer: expected window_keys ≥ 0, found {}", window_keys);
  return std::make_shared<SoftmaxMixer>(shape, window_keys);
}

}  // namespace tigon
