// Llama 3's own tokenizer file.
#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>

#include "data/tokenizer.h"

namespace tigon {

/// Whether a text begins as a tiktoken file does: base64, a space, a number.
bool is_tiktoken(std::string_view text);

/// Reads Llama 3's tokenizer.model: a line a token, its bytes in base64 and its rank, which is its
/// id. The file has no pattern to split by; Llama 3's is taken, and files of another size than
/// Llama 3's 128,000 tokens are refused. Its 256 special tokens come behind, from 128,000 on, by
/// the names of tokenizer_config.json in `folder`, else those of the first release. BOS is
/// <|begin_of_text|>, EOS <|end_of_text|>, unless tokenizer_config.json or special_tokens_map.json
/// says otherwise. In text, names of special tokens are text like any (tiktoken's
/// encode_ordinary).
std::unique_ptr<Tokenizer> load_tiktoken(const std::filesystem::path& file,
                                         const std::optional<std::filesystem::path>& folder);

}  // namespace tigon
