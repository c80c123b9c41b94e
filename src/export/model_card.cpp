#include "export/model_card.h"

#include <algorithm>

#include "core/progress.h"

namespace tigon {
namespace {

constexpr const char* kUsage = R"(```python
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained("FOLDER", trust_remote_code=True)
```

It runs in tigon, and in transformers (tested with 5.17 and 5.23) with `trust_remote_code=True`:
`modeling_tigon.py` in this folder is the model, plain PyTorch without another package. Batches of
unequal length are padded on the left. It does not run in vLLM or llama.cpp.
)";

constexpr const char* kPlainUsage = R"(It is a plain Llama folder and runs wherever those run.
)";

/// The last part of the path of the folder the weights came from.
std::string base_name(const std::filesystem::path& base) {
  const std::filesystem::path folder = std::filesystem::absolute(base).lexically_normal();
  return folder.has_filename() ? folder.filename().string()
                               : folder.parent_path().filename().string();
}

std::string number(const Json& row, const char* key, const char* format, double factor = 1) {
  if (!row.contains(key) || !row[key].is_number()) return "";
  return fmt::format(fmt::runtime(format), factor * row[key].get<double>());
}

/// One line for each object of the results that has a loss.
std::string results_table(const Json& results) {
  std::string lines;
  for (const auto& [key, row] : results.items()) {
    if (!row.is_object() || !row.contains("nats_per_token")) continue;
    std::string name = key;
    std::ranges::replace(name, '_', ' ');
    lines +=
        fmt::format("| {} | {} | {} | {} |\n", name, number(row, "nats_per_token", "{:.4f}"),
                    number(row, "perplexity", "{:.3f}"), number(row, "recovered", "{:.1f} %", 100));
  }
  if (lines.empty()) return "";
  return "\n## Measured\n\nHeld-out text; recovered = (window only - loss) / (window only - "
         "teacher)."
         "\n\n| | nats a token | perplexity | recovered |\n|---|---|---|---|\n" +
         lines;
}

}  // namespace

std::string model_card(const std::string& name, const LoadedModel& loaded,
                       const ConversionReport& report, const ExportOptions& options) {
  const bool is_teacher = loaded.plan.is_teacher();
  const std::string base = loaded.folder.empty() ? "" : base_name(loaded.folder);
  std::string card = "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [tigon";
  card += is_teacher ? "]\n---\n" : ", linear-attention]\n---\n";
  card += fmt::format("# {}\n\n", name);
  card += base.empty() ? "Made with tigon" : fmt::format("Made from {} with tigon", base);
  card += is_teacher
              ? ", without linearization.\n\n"
              : fmt::format(
                    ", recipe `{}`: its layers mix tokens as listed below. The licence of the "
                    "base applies.\n\n",
                    report.recipe);
  card += is_teacher ? kPlainUsage : kUsage;
  card += fmt::format(
      "\n## Layers\n\n```\n{}```\n\n{} parameters of the base, {} new "
      "(conversion_report.json lists every tensor).\n",
      layers_to_text(report.layers), format_count(static_cast<double>(report.base_parameters)),
      format_count(static_cast<double>(report.new_parameters)));
  if (options.results.is_object()) card += results_table(options.results);
  return card;
}

}  // namespace tigon
