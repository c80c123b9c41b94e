// Tokenizers in sentencepiece's format: Llama 1 and 2, Mistral, Gemma, T5 and others.
#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/tokenizer.h"

namespace tigon {

/// Opens a sentencepiece model; `companions` are the files that belong to it in a Hugging Face
/// folder. Throws Error naming the file if it is not a sound sentencepiece model.
std::unique_ptr<Tokenizer> load_sentencepiece(const std::filesystem::path& model,
                                              std::vector<std::filesystem::path> companions);

/// The same for a model held in memory; `source_name` appears in errors, `files` is what files()
/// gives.
std::unique_ptr<Tokenizer> load_sentencepiece_model(const std::string& model,
                                                    const std::string& source_name,
                                                    std::vector<std::filesystem::path> files);

}  // namespace tigon
