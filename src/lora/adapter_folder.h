// Adapter folders as peft writes and reads them: adapter_model.safetensors and adapter_config.json.
#pragma once
#include <filesystem>
#include <string>

#include "lora/lora.h"

namespace tigon {

/// Writes both files into an existing folder. `base_model_path` goes into base_model_name_or_path
/// (null if empty).
void write_adapter(const std::filesystem::path& folder, const ModelWeights& weights,
                   const LoraOptions& options, const std::string& base_model_path);

/// Reads and checks adapter_config.json: peft types other than LoRA and options that change the
/// mathematics (rslora, dora, bias, modules_to_save, …) throw Error by name.
LoraOptions read_adapter_config(const std::filesystem::path& folder);

/// Reads adapter_config.json, puts adapters on the targets and loads every tensor; missing or extra
/// tensors and wrong shapes throw Error. Nothing changes if it throws. Returns the options read.
LoraOptions load_adapter(const std::filesystem::path& folder, ModelWeights& weights);

}  // namespace tigon
