#include <fmt/ranges.h>

#include "core/progress.h"
#include "linearize/convert.h"

namespace tigon {
namespace {

int64_t count_tensors(const ConversionReport& report, std::string_view fate) {
  int64_t count = 0;
  for (const ReportedTensor& tensor : report.tensors) count += tensor.fate.starts_with(fate);
  return count;
}

std::string fate_to_text(const ConversionReport& report, const char* fate, int64_t parameters) {
  return fmt::format("  {:<8} {:>5} tensors, {} parameters\n", fate, count_tensors(report, fate),
                     format_count(static_cast<double>(parameters)));
}

}  // namespace

std::string layers_to_text(const std::vector<std::string>& layers) {
  std::string text;
  for (size_t first = 0; first < layers.size();) {
    size_t last = first;
    while (last + 1 < layers.size() && layers[last + 1] == layers[first]) ++last;
    const std::string numbers =
        first == last ? fmt::format("layer {}", first) : fmt::format("layers {}-{}", first, last);
    text += fmt::format("  {:<14} {}\n", numbers, layers[first]);
    first = last + 1;
  }
  return text;
}

Json report_to_json(const ConversionReport& report) {
  Json tensors = Json::array();
  for (const ReportedTensor& tensor : report.tensors) {
    tensors.push_back({{"name", tensor.name}, {"fate", tensor.fate}, {"shape", tensor.shape}});
  }
  return {{"recipe", report.recipe},
          {"layers", report.layers},
          {"parameters",
           {{"base", report.base_parameters},
            {"new", report.new_parameters},
            {"dropped", report.dropped_parameters}}},
          {"tensors", std::move(tensors)}};
}

std::string report_to_text(const ConversionReport& report) {
  std::string text = fmt::format("recipe {}\n", report.recipe);
  text += layers_to_text(report.layers);
  text += fate_to_text(report, "copied", report.base_parameters);
  text += fate_to_text(report, "new", report.new_parameters);
  text += fate_to_text(report, "dropped", report.dropped_parameters);
  for (const ReportedTensor& tensor : report.tensors) {
    if (tensor.fate == "copied") continue;
    text +=
        fmt::format("    {} [{}]: {}\n", tensor.name, fmt::join(tensor.shape, ", "), tensor.fate);
  }
  return text;
}

}  // namespace tigon
