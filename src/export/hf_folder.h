// Writing results in Hugging Face's forms: a merged model folder, or an adapter folder.
#pragma once
#include <filesystem>
#include <string>

#include "linearize/convert.h"
#include "lora/lora.h"

namespace tigon {

struct ExportOptions {
  // Tokenizer files, generation_config.json and licence come from here: a model folder, a tokenizer
  // file, or nothing.
  std::filesystem::path base_folder;
  // Of the weights, e.g. "bfloat16". Default: the base's own, or what memory holds if that is less.
  std::string dtype = "";
  Json results = nullptr;  // measured table for the model card (comparison_to_json); may be null
  bool replace = false;    // whether an existing folder may be replaced
  int64_t max_shard_bytes = 4'000'000'000;  // larger models are split into several files
};

/// Writes a merged folder: config.json (model_type tigon unless the plan is a teacher's),
/// safetensors, tokenizer, licence, conversion_report.json, modeling_tigon.py,
/// configuration_tigon.py and a model card. Adapters are merged on the way out, tensor by tensor,
/// without changing `loaded`. Before anything is committed, the written folder is loaded again and
/// its logits are compared with those of the unmerged model; the export is refused beyond
/// merge_tolerance() (merge_check.h), and where the weights in memory have less precision than the
/// ones to be written.
void export_merged(const LoadedModel& loaded, const Conversion& conversion,
                   const std::filesystem::path& out, const ExportOptions& options);

/// Writes an adapter folder: peft's two files, linearize.json (plan and base fingerprint),
/// new_parameters.safetensors where there are any.
void export_adapter(const LoadedModel& loaded, const LoraOptions& lora,
                    const std::filesystem::path& out, const ExportOptions& options);

}  // namespace tigon
