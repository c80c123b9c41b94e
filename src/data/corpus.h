// Data files as a list of documents. No Torch here.
#pragma once
#include <filesystem>
#include <functional>
#include <vector>

#include "data/corpus_counts.h"
#include "data/document.h"
#include "data/document_options.h"

namespace tigon {

/// Reads files of every kind that file_kind() knows in the given order and hands over one document
/// after another; the end of a file ends a document. Text files are cut at separator lines
/// (text_splitter.h); a record of the others is a document (record_document.h). Returns what became
/// of the records. Throws Error for a missing, unreadable or corrupt file, for a format that a file
/// cannot have, and, unless options.on_bad_record is "skip", for the first record that is
/// malformed, lacks its fields or is over the limit, naming file, line (row, in a Parquet file) and
/// reason. Empty records are left out and counted.
CorpusCounts for_each_document(const std::vector<std::filesystem::path>& files,
                               const std::function<void(Document&& document)>& visit,
                               const DocumentOptions& options = {});

}  // namespace tigon
