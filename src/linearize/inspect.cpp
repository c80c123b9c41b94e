#include "linearize/inspect.h"

#include <algorithm>
#include <filesystem>

#include "core/progress.h"
#include "core/table.h"
#include "linearize/convert.h"
#include "linearize/mixer_parameters.h"
#include "model/state.h"
#include "model/tensor_io.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

int64_t count_elements(const TensorView& view) {
  return static_cast<int64_t>(view.bytes / dtype_bytes(view.dtype));
}

void describe_mixers(FolderSummary& summary, const ModelConfig& config, const Plan& plan) {
  summary.recipe = plan.recipe;
  summary.family = config.model_type;
  summary.state_dtype = config.dtype.empty() ? "float32" : config.dtype;
  const at::ScalarType dtype = to_scalar_type(dtype_from_name(summary.state_dtype).value());
  const MixerStack stack = build_stack(plan, config, at::kMeta);
  const MixerStack teacher = make_teacher_stack(config);
  for (const auto& mixer : stack) {
    summary.layers.push_back(fmt::format("{}: {}", mixer->kind(), mixer->describe()));
  }
  for (const int64_t tokens : {1 << 10, 1 << 12, 1 << 14, 1 << 15, 1 << 16, 1 << 18, 1 << 20}) {
    summary.state.push_back({tokens, state_bytes_per_sequence(stack, tokens, dtype),
                             state_bytes_per_sequence(teacher, tokens, dtype)});
  }
}

void count_weights(FolderSummary& summary, const fs::path& folder) {
  const Checkpoint checkpoint(folder);
  for (const auto& [name, view] : checkpoint.tensors()) {
    int64_t& count = is_mixer_parameter(name) ? summary.new_parameters : summary.base_parameters;
    count += count_elements(*view);
    summary.weight_bytes += static_cast<int64_t>(view->bytes);
  }
}

/// Of a model whose weights are elsewhere.
int64_t count_parameters(const ModelConfig& config) {
  int64_t count = 0;
  const ModelWeights weights = meta_weights(config, at::kFloat);
  visit_parameters(weights, [&](const std::string&, const at::Tensor& parameter) {
    count += parameter.numel();
  });
  return count;
}

FolderSummary inspect_model(const fs::path& folder) {
  const ModelConfig config = read_model_config(folder);
  FolderSummary summary;
  summary.kind = config.linearize.is_null() ? "teacher" : "linearized";
  describe_mixers(summary, config, read_folder_plan(config, folder));
  summary.has_weights = Checkpoint::has_weights(folder);
  if (summary.has_weights) {
    count_weights(summary, folder);
  } else {
    summary.base_parameters = count_parameters(config);
  }
  return summary;
}

/// Parameters and bytes of one file of an adapter folder.
void count_file(FolderSummary& summary, const fs::path& path, int64_t& parameters) {
  const SafetensorsFile file(path);
  for (const auto& [name, view] : file.tensors()) {
    parameters += count_elements(view);
    summary.weight_bytes += static_cast<int64_t>(view.bytes);
  }
}

FolderSummary inspect_adapter(const fs::path& folder) {
  FolderSummary summary;
  summary.kind = "adapter";
  count_file(summary, folder / "adapter_model.safetensors", summary.lora_parameters);
  const fs::path new_parameters = folder / "new_parameters.safetensors";
  if (fs::exists(new_parameters)) count_file(summary, new_parameters, summary.new_parameters);
  const Json config = read_json_file(folder / "adapter_config.json");
  if (config.contains("base_model_name_or_path") && config["base_model_name_or_path"].is_string()) {
    summary.base = config["base_model_name_or_path"];
  }
  const std::optional<AdapterPlan> stored = read_adapter_plan(folder);
  const fs::path base = summary.base;
  if (summary.base.empty() || !fs::exists(base / "config.json")) {
    summary.recipe = stored ? stored->plan.recipe : "none";
    return summary;
  }
  const ModelConfig base_config = read_model_config(base);
  describe_mixers(summary, base_config,
                  stored ? stored->plan : read_folder_plan(base_config, base));
  const int64_t own_bytes = summary.weight_bytes;
  count_weights(summary, base);
  summary.weight_bytes = own_bytes;
  return summary;
}

}  // namespace

FolderSummary inspect_folder(const fs::path& folder) {
  const bool is_adapter =
      fs::exists(folder / "adapter_config.json") && !fs::exists(folder / "config.json");
  if (is_adapter) return inspect_adapter(folder);
  require_model_folder(folder);
  return inspect_model(folder);
}

Json summary_to_json(const FolderSummary& summary) {
  Json state = Json::array();
  for (const StateSize& size : summary.state) {
    state.push_back(
        {{"tokens", size.tokens}, {"bytes", size.bytes}, {"teacher_bytes", size.teacher_bytes}});
  }
  return {{"kind", summary.kind},
          {"family", summary.family},
          {"recipe", summary.recipe},
          {"base", summary.base},
          {"layers", summary.layers},
          {"parameters",
           {{"base", summary.base_parameters},
            {"new", summary.new_parameters},
            {"lora", summary.lora_parameters}}},
          {"has_weights", summary.has_weights},
          {"weight_bytes", summary.weight_bytes},
          {"state_dtype", summary.state_dtype},
          {"state_per_sequence", std::move(state)}};
}

std::string summary_to_text(const FolderSummary& summary) {
  const bool has_model = !summary.family.empty();
  std::string text = fmt::format("{} folder, family {}, recipe {}\n", summary.kind,
                                 has_model ? summary.family : "unknown", summary.recipe);
  if (summary.kind == "adapter") {
    text += fmt::format("base {}{}\n", summary.base.empty() ? "not named" : summary.base,
                        has_model ? "" : " (not here: layers and state are not shown)");
  }
  text += layers_to_text(summary.layers);
  text +=
      fmt::format("parameters: base {}, new {}, LoRA {}; {}\n",
                  format_count(static_cast<double>(summary.base_parameters)),
                  format_count(static_cast<double>(summary.new_parameters)),
                  format_count(static_cast<double>(summary.lora_parameters)),
                  summary.has_weights
                      ? format_bytes(static_cast<double>(summary.weight_bytes)) + " in this folder"
                      : "no weights in this folder");
  if (!has_model) return text;
  std::vector<std::vector<std::string>> rows;
  for (const StateSize& size : summary.state) {
    rows.push_back({format_count(static_cast<double>(size.tokens)),
                    format_bytes(static_cast<double>(size.bytes)),
                    format_bytes(static_cast<double>(size.teacher_bytes))});
  }
  return text + fmt::format("state of one sequence ({}):\n", summary.state_dtype) +
         format_table({"tokens", "this folder", "softmax attention"}, rows);
}

}  // namespace tigon
