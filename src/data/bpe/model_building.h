// A byte-pair model from the vocabulary and merges that Hugging Face files hold.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/bpe/bpe_model.h"

namespace tigon {

struct BpeModelFile {
  std::string source_name;  // for messages
  // Pieces as written: for byte-level models in GPT-2's characters (byte_characters.h).
  std::vector<std::pair<std::string, int32_t>> vocabulary;
  std::vector<std::pair<std::string, std::string>> merges;  // by rank
  BpeOptions options;                                       // without unknown_id
  std::optional<std::string> unknown;                       // the unknown token, if there is one
};

/// Builds the model and puts every piece at its id in `tokens`. Throws Error for a piece or an id
/// that appears twice, for a merge whose parts or result are not in the vocabulary, and for an
/// unknown token that is not there but can be needed.
std::unique_ptr<BpeModel> build_bpe_model(BpeModelFile file,
                                          std::vector<std::optional<std::string>>& tokens);

}  // namespace tigon
