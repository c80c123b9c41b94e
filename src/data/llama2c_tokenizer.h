// The tokenizer file of karpathy's llama2.c: an int32 (the longest token), then for each token a
// float32 score, an int32 length and the bytes. It was written from a sentencepiece model, and is
// turned back into one.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace tigon {

/// The sentencepiece model (serialized) of a llama2.c tokenizer file: BPE with bytes for unknown
/// characters and a space before the text; 0 unknown, 1 BOS, 2 EOS. Throws Error naming
/// `source_name` if the bytes are no such file.
std::string sentencepiece_model_of_llama2c(std::string_view bytes, const std::string& source_name);

/// The llama2.c tokenizer in a folder: its only `.bin` file of that form; nothing if there is none.
/// Throws Error if there are several.
std::optional<std::filesystem::path> find_llama2c_tokenizer(const std::filesystem::path& folder);

}  // namespace tigon
