// What a folder holds, from its small files and the headers of its weights: nothing large is read.
#pragma once
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "io/json_file.h"

namespace tigon {

/// Memory that one sequence keeps after this many tokens.
struct StateSize {
  int64_t tokens = 0;
  int64_t bytes = 0;          // of this folder's mixers
  int64_t teacher_bytes = 0;  // of the teacher's own attention
};

struct FolderSummary {
  std::string kind;                 // teacher | linearized | adapter
  std::string family;               // "llama"; empty: an adapter whose base is not here
  std::string recipe;               // "none" for a teacher and for a plain peft adapter
  std::string base;                 // of an adapter: its base as adapter_config.json names it
  std::vector<std::string> layers;  // one line a layer: its mixer
  bool has_weights = true;          // false: parameters are counted from config.json
  int64_t base_parameters = 0, new_parameters = 0, lora_parameters = 0;
  int64_t weight_bytes = 0;      // of the folder's own tensors
  std::string state_dtype;       // what keys and values are kept in
  std::vector<StateSize> state;  // at 1 K … 1 M tokens
};

/// Works on teacher, linearized and adapter folders. Throws Error for anything else.
FolderSummary inspect_folder(const std::filesystem::path& folder);
Json summary_to_json(const FolderSummary& summary);
std::string summary_to_text(const FolderSummary& summary);

}  // namespace tigon
