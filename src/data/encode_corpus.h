// A corpus as token ids, tokenized by several threads and handed over in order.
#pragma once
#include <filesystem>
#include <functional>
#include <vector>

#include "data/corpus_counts.h"
#include "data/document_options.h"
#include "data/encode_document.h"

namespace tigon {

/// Tokenizes every document of the files (for_each_document) with `num_threads` threads and calls
/// `visit` on the calling thread, in the order of the corpus. Only a few documents a thread are in
/// memory at a time. Returns what became of the records. An error of reading, tokenizing or
/// visiting ends everything and is rethrown.
CorpusCounts encode_corpus(const std::vector<std::filesystem::path>& files,
                           const Tokenizer& tokenizer, int num_threads,
                           const std::function<void(EncodedDocument&& document)>& visit,
                           const DocumentOptions& options = {});

}  // namespace tigon
