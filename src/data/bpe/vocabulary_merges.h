// Byte-level tokenizers in GPT-2's form: vocab.json and merges.txt.
#pragma once
#include <filesystem>
#include <memory>

#include "data/tokenizer.h"

namespace tigon {

/// Reads vocab.json and merges.txt of a folder. They do not say how text is split: that goes by the
/// tokenizer_class of tokenizer_config.json, else the model_type of config.json, else GPT-2; known
/// are GPT-2 and Qwen 2, 2.5 and 3, others are an Error that names them. Added tokens, which are
/// recognised in text, come from tokenizer_config.json or added_tokens.json; where neither has any,
/// <|endoftext|> is one. Lines of merges.txt may end in "\r\n".
std::unique_ptr<Tokenizer> load_vocabulary_and_merges(const std::filesystem::path& folder);

}  // namespace tigon
