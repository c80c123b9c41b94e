// The model's part of a checkpoint: an adapter folder, or all weights in float32.
#pragma once
#include "train/run_parts.h"

namespace tigon {

/// Writes what was trained into an existing folder. lora, new: an adapter folder (design.md §3).
/// all: a model folder (config.json, model.safetensors in float32, tokenizer files) that `--model`
/// takes.
void save_trained(const std::filesystem::path& folder, const RunConfig& config,
                  const RunParts& parts);

/// Copies what save_trained wrote back into the run's parameters, bit for bit.
void restore_trained(const std::filesystem::path& folder, const RunConfig& config, RunParts& parts);

}  // namespace tigon
