// Text files as a list of documents. No Torch here.
#pragma once
#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace tigon {

/// A document is held in memory, and tokenized, as a whole.
inline constexpr size_t kMaxDocumentBytes = size_t{1} << 30;

/// Reads `.txt` and `.xz` files in the given order and hands over one document after another:
/// documents are separated by a line holding one NUL byte (and by the end of a file); newlines
/// around a document are stripped, those inside are kept; empty documents are skipped. Throws Error
/// for a missing, unreadable or corrupt file, for an ending that tigon does not read, and for a
/// document over `max_document_bytes`.
void for_each_document(const std::vector<std::filesystem::path>& files,
                       const std::function<void(std::string&& document)>& visit,
                       size_t max_document_bytes = kMaxDocumentBytes);

}  // namespace tigon
