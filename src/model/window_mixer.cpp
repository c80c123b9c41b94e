#include <fmt/format.h>

#include "core/error.h"
#include "model/key_value_ring.h"

namespace tigon {
namespace {

class WindowMixer : public Mixer {
 public:
  WindowMixer(const HeadShape& shape, const WindowMixerOptions& options)
      : shape_(shape), options_(options) {}

  at::Tensor forward(const MixerInput& input, MixerState* state) const override {
    return attend(input, {.window_keys = options_.window_keys, .sinks = options_.sinks},
                  static_cast<KeyValueRing*>(state));
  }

  std::unique_ptr<MixerState> make_state(int64_t slots, at::ScalarType dtype,
                                         at::Device device) const override {
    return std::make_unique<KeyValueRing>(shape_, options_.window_keys, options_.sinks, slots,
                                          dtype, device);
  }

  std::string kind() const override { return "window"; }

  std::string describe() const override {
    const std::string window = fmt::format("window of {} keys", options_.window_keys);
    return options_.sinks == 0 ? window : fmt::format("{} + {} sinks", window, options_.sinks);
  }

 private:
  HeadShape shape_;
  WindowMixerOptions options_;
};

}  // namespace

std::shared_ptr<const Mixer> make_window_mixer(const HeadShape& shape,
                                               const WindowMixerOptions& options) {
  if (options.window_keys < 1) {
    fail("window mixer: expected window_keys ≥ 1, found {}", options.window_keys);
  }
  if (options.sinks < 0) fail("window mixer: expected sinks ≥ 0, found {}", options.sinks);
  return std::make_shared<WindowMixer>(shape, options);
}

}  // namespace tigon
