// What the files beside a tokenizer say about its special tokens: tokenizer_config.json,
// special_tokens_map.json, added_tokens.json, and last generation_config.json and config.json.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/bpe/added_tokens.h"

namespace tigon {

/// A token that a file may name, name as absent (null), or not mention.
struct NamedToken {
  bool is_mentioned = false;
  std::optional<std::string> content;
};

struct TokenizerFolder {
  NamedToken bos, eos;
  // From generation_config.json or config.json, which speak of the model and not of the tokenizer.
  std::optional<int32_t> model_bos_id, model_eos_id;
  std::optional<bool> adds_bos;
  std::optional<bool> adds_prefix_space;
  std::string tokenizer_class;  // empty if no file names it
  std::string model_type;       // of config.json; empty if there is none
  bool has_config = false;      // whether there is a tokenizer_config.json
  bool has_own_code = false;    // whether it is read by Python code of the model's folder
  std::vector<AddedToken> added_tokens;
  std::vector<std::filesystem::path> files;  // of those named above that belong to the tokenizer
};

/// Reads what is there; nothing has to be. Throws Error naming file and key for malformed ones.
TokenizerFolder read_tokenizer_folder(const std::filesystem::path& folder);

}  // namespace tigon
