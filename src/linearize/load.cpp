#include <algorithm>
#include <cctype>
#include <map>
#include <optional>

#include "linearize/convert.h"
#include "linearize/mixer_parameters.h"
#include "lora/adapter_folder.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

/// "owner/name" with the letters a hub id may have, and no folder of that name.
bool looks_like_hub_id(const std::string& name) {
  const auto is_id_letter = [](unsigned char letter) {
    return std::isalnum(letter) || letter == '-' || letter == '_' || letter == '.' || letter == '/';
  };
  return !name.empty() && std::ranges::all_of(name, is_id_letter) &&
         std::isalnum(static_cast<unsigned char>(name.front())) && name.back() != '/' &&
         std::ranges::count(name, '/') == 1;
}

/// The plan a model runs with when an adapter is put on it.
Plan plan_with_adapter(const Plan& plan, const fs::path& folder, const fs::path& adapter) {
  const std::optional<AdapterPlan> stored = read_adapter_plan(adapter);
  if (!stored) return plan;
  if (!plan.is_teacher() && stored->plan != plan) {
    fail("{}: the adapter was trained with the mixers {}, but {} has {}", adapter.string(),
         plan_to_json(stored->plan).dump(), folder.string(), plan_to_json(plan).dump());
  }
  const std::string fingerprint = checkpoint_fingerprint(folder);
  if (!stored->base_fingerprint.empty() && stored->base_fingerprint != fingerprint) {
    fail(
        "{}: the adapter was trained on other weights: expected a base with fingerprint {}, but {} "
        "has {}",
        adapter.string(), stored->base_fingerprint, folder.string(), fingerprint);
  }
  return stored->plan;
}

/// build_stack for a plan that came with a folder: one that does not fit is a fault of the data.
MixerStack folder_stack(const Plan& plan, const ModelConfig& config, at::Device device,
                        const fs::path& source) {
  try {
    return build_stack(plan, config, device);
  } catch (const UsageError& error) {
    fail("{}: {}", source.string(), error.what());
  }
}

/// The mixers' parameters come from the folder, or from the adapter that was trained with them.
void load_new_parameters(const MixerStack& stack, const fs::path& folder, const fs::path& adapter) {
  const Checkpoint checkpoint(folder);
  std::map<std::string, const TensorView*> tensors = checkpoint.tensors();
  const fs::path path = adapter / "new_parameters.safetensors";
  std::optional<SafetensorsFile> file;
  if (!adapter.empty() && fs::exists(path)) {
    file.emplace(path);
    for (const auto& [name, view] : file->tensors()) {
      if (!is_mixer_parameter(name)) {
        fail("{}: expected parameters of mixers, found {}", path.string(), name);
      }
      tensors[name] = &view;
    }
  }
  load_mixer_parameters(stack, tensors, file ? path.string() : folder.string());
}

}  // namespace

Plan read_folder_plan(const ModelConfig& config, const fs::path& folder) {
  if (config.linearize.is_null()) return {};
  return plan_from_json(config.linearize, (folder / "config.json").string() + " linearize");
}

void require_model_folder(const fs::path& folder) {
  const std::string name = folder.string();
  if (fs::is_regular_file(folder)) fail("{}: expected a model folder, found a file", name);
  if (!fs::is_directory(folder)) {
    if (!looks_like_hub_id(name)) fail("{}: there is no such folder", name);
    fail(
        "{0}: there is no such folder; to download the model of that name:\n"
        "  hf download {0} --local-dir {1}\nand pass --model {1}",
        name, folder.filename().string());
  }
  if (!fs::exists(folder / "config.json") && fs::exists(folder / "adapter_config.json")) {
    fail(
        "{0}: expected a model folder, found an adapter folder: pass its base as --model and it as "
        "--adapter {0}",
        name);
  }
}

at::Tensor streamed_logits(const fs::path& folder, at::ScalarType dtype, const Batch& batch) {
  const at::NoGradGuard no_grad;
  const Checkpoint checkpoint(folder);
  Model model;
  model.config = read_model_config(folder);
  model.device = batch.tokens.device();
  model.compute_dtype = dtype;
  const MixerStack stack =
      folder_stack(read_folder_plan(model.config, folder), model.config, model.device, folder);
  model.weights = load_weights_around_layers(checkpoint, model.config, dtype, model.device);
  model.rotary = make_rotary(model.config.rope, model.config.head_dim, model.device);
  load_new_parameters(stack, folder, {});
  const auto load = [&](int64_t layer) {
    return load_layer(checkpoint, model.weights.layers[layer], layer, dtype, model.device);
  };
  return logits_of(model, forward_hidden(model, stack, batch, {.load_layer = load}));
}

LoadedModel load_any_model(const fs::path& folder, at::ScalarType dtype, at::Device device,
                           const fs::path& adapter) {
  require_model_folder(folder);
  // Everything that can be refused from small files is, before weights are read.
  const ModelConfig config = read_model_config(folder);
  Plan plan = read_folder_plan(config, folder);
  if (!adapter.empty()) plan = plan_with_adapter(plan, folder, adapter);
  MixerStack stack = folder_stack(plan, config, device, adapter.empty() ? folder : adapter);
  LoadedModel loaded{.model = load_model(folder, dtype, device),
                     .plan = std::move(plan),
                     .stack = std::move(stack),
                     .folder = folder};
  load_new_parameters(loaded.stack, folder, adapter);
  if (!adapter.empty()) load_adapter(adapter, loaded.model.weights);
  return loaded;
}

}  // namespace tigon
