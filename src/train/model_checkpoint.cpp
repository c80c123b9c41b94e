#include "train/model_checkpoint.h"

#include "export/hf_config.h"
#include "export/hf_folder.h"
#include "linearize/mixer_parameters.h"
#include "model/tensor_io.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPeftPrefix = "base_model.model.";

/// The trained parameters that belong to mixers, or the others.
std::vector<Parameter> select(const std::vector<Parameter>& parameters, bool of_mixers) {
  std::vector<Parameter> selected;
  for (const Parameter& parameter : parameters) {
    if (is_mixer_parameter(parameter.name) == of_mixers) selected.push_back(parameter);
  }
  return selected;
}

void save_all(const fs::path& folder, const RunParts& parts) {
  write_json_file(folder / "config.json", exported_config(parts.loaded, DType::kFloat32));
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const Parameter& parameter : parts.parameters) {
    tensors.emplace_back(parameter.name, parameter.tensor.detach());
  }
  save_tensors(folder / "model.safetensors", tensors, {{"format", "pt"}});
  for (const fs::path& file : parts.tokenizer->files()) {
    fs::copy_file(file, folder / file.filename());
  }
}

}  // namespace

void save_trained(const fs::path& folder, const RunConfig& config, const RunParts& parts) {
  if (config.train.trainable == "all") {
    save_all(folder, parts);
    return;
  }
  ExportOptions options;
  options.base_folder = config.model_path;
  export_adapter(parts.loaded, config.lora, folder, options);
}

void restore_trained(const fs::path& folder, const RunConfig& config, RunParts& parts) {
  if (config.train.trainable == "all") {
    restore_parameters(folder / "model.safetensors", "", parts.parameters);
    return;
  }
  const auto adapters = select(parts.parameters, /*of_mixers=*/false);
  const auto added = select(parts.parameters, /*of_mixers=*/true);
  if (!adapters.empty()) {
    restore_parameters(folder / "adapter_model.safetensors", kPeftPrefix, adapters);
  }
  if (!added.empty()) restore_parameters(folder / "new_parameters.safetensors", "", added);
}

}  // namespace tigon
