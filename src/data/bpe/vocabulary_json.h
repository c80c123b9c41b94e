// Reads the JSON files of tokenizers: vocabularies of any size without a tree of values, the rest
// as parse_json would.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/json_file.h"

namespace tigon {

/// The largest file that is read.
inline constexpr size_t kMaxTokenizerBytes = size_t{256} << 20;

struct VocabularyJson {
  std::vector<std::pair<std::string, int32_t>> vocabulary;  // in the order of the file
  std::vector<std::pair<std::string, std::string>> merges;  // by rank
  Json rest;                                                // everything else
};

/// A tokenizer.json: `model.vocab` and `model.merges` go to the lists and are not in `rest`. A
/// model.vocab or model.merges of another form than byte-pair models have is left out. Throws Error
/// naming `source_name` for malformed JSON, nesting deeper than 64, an id outside 0 …
/// kMaxTokenIds − 1, a merge that is not two texts, a key that appears twice or an object of more
/// than 5,000 keys in the rest. That a piece appears twice shows when the vocabulary is built.
VocabularyJson parse_tokenizer_json(std::string_view text, const std::string& source_name);

/// A vocab.json: one object, pieces to ids. Throws Error as above.
std::vector<std::pair<std::string, int32_t>> parse_vocabulary_json(std::string_view text,
                                                                   const std::string& source_name);

/// A merge as a line has it: two pieces with a space between. Throws Error naming `source_name`
/// and the merge's number, from 1.
std::pair<std::string, std::string> split_merge(std::string_view line, size_t number,
                                                const std::string& source_name);

}  // namespace tigon
