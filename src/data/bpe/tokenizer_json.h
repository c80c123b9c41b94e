// A Hugging Face tokenizer.json as a tokenizer.
#pragma once
#include <filesystem>
#include <memory>
#include <optional>

#include "data/tokenizer.h"

namespace tigon {

/// Reads a tokenizer.json with a BPE model (byte-level, or sentencepiece-style with byte_fallback)
/// and the parts that tokenizer_json_parts.h lists; anything else it asks for is an Error that
/// names it. `truncation` and `padding` are not followed: they concern batches, and tigon makes its
/// own. `folder`: where files beside it may add tokens and name BOS and EOS (tokenizer_folder.h);
/// none: the file alone. BOS and EOS are, in this order, what tokenizer_config.json,
/// special_tokens_map.json, the file's template, generation_config.json and config.json name.
std::unique_ptr<Tokenizer> load_tokenizer_json(const std::filesystem::path& file,
                                               const std::optional<std::filesystem::path>& folder);

}  // namespace tigon
