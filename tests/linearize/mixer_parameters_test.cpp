#include "linearize/mixer_parameters.h"

#include "linearize/convert.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

/// A mixer with a parameter, as later recipes have them.
class GatedWindow : public Mixer {
 public:
  explicit GatedWindow(const HeadShape& shape)
      : window_(make_window_mixer(shape, {.window_keys = 4})),
        gate_(at::zeros({shape.num_heads, 2}, test_device())) {}
  at::Tensor forward(const MixerInput& input, MixerState* state) const override {
    return window_->forward(input, state);
  }
  std::unique_ptr<MixerState> make_state(int64_t slots, at::ScalarType dtype,
                                         at::Device device) const override {
    return window_->make_state(slots, dtype, device);
  }
  std::string kind() const override { return "gated-window"; }
  std::string describe() const override { return "a window with a gate"; }
  std::vector<std::pair<std::string, at::Tensor>> parameters() const override {
    return {{"gate", gate_}};
  }

 private:
  std::shared_ptr<const Mixer> window_;
  at::Tensor gate_;
};

MixerStack gated_stack() {
  const ModelConfig config = tiny_config();
  MixerStack stack = make_teacher_stack(config);
  stack[1] = std::make_shared<GatedWindow>(head_shape(config));
  return stack;
}

constexpr const char* kName = "model.layers.1.self_attn.mixer.gate";

void load(const MixerStack& stack, const std::vector<std::pair<std::string, at::Tensor>>& tensors) {
  std::vector<at::Tensor> held;
  std::map<std::string, TensorView> views;
  std::map<std::string, const TensorView*> pointers;
  for (const auto& [name, tensor] : tensors) {
    held.push_back(tensor.cpu().contiguous());
    views[name] = view_of(held.back());
  }
  for (const auto& [name, view] : views) pointers[name] = &view;
  load_mixer_parameters(stack, pointers, "FOLDER");
}

}  // namespace

TEST_CASE("mixer parameters have full names and are filled from files", "[mixer_parameters]") {
  const MixerStack stack = gated_stack();
  const auto parameters = mixer_parameters(stack);
  REQUIRE(parameters.size() == 1);
  CHECK(parameters[0].first == kName);
  const at::Tensor value = random_tensor({4, 2}, 3);
  load(stack, {{kName, value}, {"model.norm.weight", random_tensor({48}, 4)}});
  check_bitwise("gate", parameters[0].second, value);
}

TEST_CASE("mixer parameters that do not fit are refused", "[mixer_parameters]") {
  const MixerStack stack = gated_stack();
  const auto refused = [&](const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                           const std::string& text) {
    check_refused<Error>([&] { load(stack, tensors); }, text);
    check_refused<Error>([&] { load(stack, tensors); }, "FOLDER");
  };
  refused({}, std::string(kName) + ": missing");
  refused({{kName, random_tensor({4, 3}, 1)}}, "expected shape [4, 2], found [4, 3]");
  refused({{kName, random_tensor({4, 2}, 1)},
           {"model.layers.0.self_attn.mixer.gate", random_tensor({4, 2}, 1)}},
          "model.layers.0.self_attn.mixer.gate: no mixer has this parameter");
}

TEST_CASE("a report lists new parameters", "[mixer_parameters]") {
  const ConversionReport report = make_report({.recipe = "window"}, gated_stack(), tiny_model());
  CHECK(report.new_parameters == 8);
  CHECK(report.tensors.back().name == kName);
  CHECK(report.tensors.back().fate.starts_with("new ("));
  CHECK(report_to_text(report).find(kName) != std::string::npos);
}
