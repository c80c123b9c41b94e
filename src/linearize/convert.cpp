#include "linearize/convert.h"

#include <set>

#include "linearize/mixer_parameters.h"

namespace tigon {
namespace {

int64_t count_elements(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

}  // namespace

ConversionReport make_report(const Plan& plan, const MixerStack& stack, const Model& model,
                             const Checkpoint* checkpoint) {
  ConversionReport report;
  report.recipe = plan.recipe;
  for (const auto& mixer : stack) {
    report.layers.push_back(fmt::format("{}: {}", mixer->kind(), mixer->describe()));
  }
  std::set<std::string> known;
  const auto add = [&](const std::string& name, std::string fate, std::vector<int64_t> shape,
                       int64_t& parameters) {
    parameters += count_elements(shape);
    known.insert(name);
    report.tensors.push_back({name, std::move(fate), std::move(shape)});
  };
  visit_parameters(model.weights, [&](const std::string& name, const at::Tensor& parameter) {
    add(name, "copied", parameter.sizes().vec(), report.base_parameters);
  });
  for (const auto& [name, parameter] : mixer_parameters(stack)) {
    add(name, "new (initialised by its mixer)", parameter.sizes().vec(), report.new_parameters);
  }
  if (checkpoint == nullptr) return report;
  for (const auto& [name, view] : checkpoint->tensors()) {
    if (known.contains(name)) continue;
    // Loading has already refused every other tensor that nothing consumes.
    const char* const fate = name == "lm_head.weight"
                                 ? "dropped (equal to the tied embeddings)"
                                 : "dropped (a buffer computed from config.json)";
    add(name, fate, view->shape, report.dropped_parameters);
  }
  return report;
}

Conversion convert(const Plan& plan, const Model& model, const Checkpoint* checkpoint) {
  MixerStack stack = build_stack(plan, model.config, model.device);
  ConversionReport report = make_report(plan, stack, model, checkpoint);
  return {std::move(stack), std::move(report)};
}

}  // namespace tigon
