// A tiny corpus and its rows under the tiny tokenizer, and a tiny model with its vocabulary. Users
// link tigon_data and tigon_test_tokenizer.
#pragma once
#include <filesystem>
#include <string>

#include "data/rows.h"
#include "io/atomic_file.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"
#include "support/tiny_tokenizer.h"

namespace tigon::testing {

inline constexpr int kTinyVocabulary = 400;

/// A tiny config with the vocabulary of the tiny tokenizer.
inline ModelConfig tiny_text_config(int64_t num_layers = 2) {
  ModelConfig config = tiny_config(num_layers);
  config.vocab_size = kTinyVocabulary;
  config.raw = llama_config_json(config);
  return config;
}

/// Writes tokenizer.model into a folder.
inline void write_tiny_tokenizer(const std::filesystem::path& folder) {
  write_file_atomically(folder / "tokenizer.model",
                        train_tiny_tokenizer({.vocab_size = kTinyVocabulary}));
}

/// Writes documents of about 100 words, separated as for_each_document expects.
inline void write_tiny_corpus(const std::filesystem::path& path, int num_documents) {
  std::string text;
  for (int i = 0; i < num_documents; ++i) {
    if (i > 0) text += std::string("\0\n", 2);
    text += tiny_text(100, static_cast<uint64_t>(i)) + "\n";
  }
  write_file_atomically(path, text);
}

/// The rows of a tiny corpus; its files are kept in `folder`.
inline RowSet tiny_rows(const std::filesystem::path& folder, const RowOptions& options,
                        int num_documents = 6) {
  write_tiny_tokenizer(folder);
  write_tiny_corpus(folder / "corpus.txt", num_documents);
  const auto tokenizer = load_tokenizer(folder);
  return RowSet(open_token_shard({folder / "corpus.txt"}, *tokenizer, folder / "cache", 1), options,
                tokenizer->bos_id().value(), kTinyVocabulary);
}

/// Rows of 200 tokens of instructions and answers, of which only the answers are counted; their
/// files are kept in `folder`.
inline RowSet masked_tiny_rows(const std::filesystem::path& folder, int num_records) {
  write_tiny_tokenizer(folder);
  std::string lines;
  for (int i = 0; i < num_records; ++i) {
    const Json record = {{"instruction", tiny_text(10, static_cast<uint64_t>(i))},
                         {"output", tiny_text(15, static_cast<uint64_t>(100 + i))}};
    lines += record.dump() + "\n";
  }
  write_file_atomically(folder / "records.jsonl", lines);
  const auto tokenizer = load_tokenizer(folder);
  return RowSet(open_token_shard({folder / "records.jsonl"}, *tokenizer, folder / "cache", 1,
                                 {.format = "alpaca", .mask_prompt = true}),
                {.seq_len = 200, .borders = "documents", .order = "file"},
                tokenizer->bos_id().value(), kTinyVocabulary);
}

}  // namespace tigon::testing
