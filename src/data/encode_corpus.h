// A corpus as token ids, tokenized by several threads and handed over in order.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include "data/tokenizer.h"

namespace tigon {

struct EncodedDocument {
  std::vector<int32_t> ids;
  size_t text_bytes = 0;
};

/// Tokenizes every document of the files (for_each_document) with `num_threads` threads and calls
/// `visit` on the calling thread, in the order of the corpus. Only a few documents a thread are in
/// memory at a time. An error of reading, tokenizing or visiting ends everything and is rethrown.
void encode_corpus(const std::vector<std::filesystem::path>& files, const Tokenizer& tokenizer,
                   int num_threads, const std::function<void(EncodedDocument&& document)>& visit);

}  // namespace tigon
