// Held-out text given on the command line, as rows of tokens.
#pragma once
#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/document_options.h"
#include "data/rows.h"
#include "io/model_config.h"

namespace tigon {

struct TextOptions {
  std::vector<std::string> files;
  DocumentOptions documents;
  std::optional<std::string> field;  // not given: the format's usual one
  bool counts_prompt = false;
  RowOptions rows = {.order = "file"};
  int64_t batch_rows = 8;
};

/// Adds --text, --format, --field, --chat-template, --count-prompt, --separator, --on-bad-record,
/// --seq-len,
/// --rows, --borders, --bos and --batch-rows; returns --text.
CLI::Option* add_text_options(CLI::App& command, TextOptions& options);

/// The rows of the text under the tokenizer of a model folder: documents in file order, the first
/// rows of them.
RowSet open_text_rows(const TextOptions& options, const std::filesystem::path& model_folder,
                      const ModelConfig& config);

}  // namespace tigon
