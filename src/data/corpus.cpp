#include "data/corpus.h"

#include <string_view>
#include <utility>

#include "core/error.h"
#include "data/text_file.h"

namespace tigon {
namespace {

/// Finds the documents of a text that arrives in pieces.
class DocumentSplitter {
 public:
  DocumentSplitter(std::string source_name, size_t max_bytes,
                   const std::function<void(std::string&& document)>& visit)
      : source_name_(std::move(source_name)), max_bytes_(max_bytes), visit_(visit) {}

  void add(std::string_view piece) {
    text_.append(piece);
    size_t document = 0;
    for (size_t end; (end = text_.find('\n', scanned_)) != std::string::npos;) {
      const bool is_separator = is_nul_line(line_, end);
      if (is_separator) hand_over(document, line_);
      line_ = scanned_ = end + 1;
      if (is_separator) document = line_;
    }
    scanned_ = text_.size() - document;
    line_ -= document;
    text_.erase(0, document);
    check_size(text_.size());
  }

  void finish() {
    const size_t end = is_nul_line(line_, text_.size()) ? line_ : text_.size();
    hand_over(0, end);
    text_.clear();
    line_ = scanned_ = 0;
  }

 private:
  /// Lines may end in "\r\n".
  bool is_nul_line(size_t begin, size_t end) const {
    const std::string_view line = std::string_view(text_).substr(begin, end - begin);
    return line == std::string_view("\0", 1) || line == std::string_view("\0\r", 2);
  }

  void check_size(size_t bytes) const {
    if (bytes <= max_bytes_) return;
    fail(
        "{}: expected documents of at most {} bytes, found a longer one; separate documents by a "
        "line holding one NUL byte",
        source_name_, max_bytes_);
  }

  void hand_over(size_t begin, size_t end) {
    std::string_view document = std::string_view(text_).substr(begin, end - begin);
    const size_t first = document.find_first_not_of("\r\n");
    if (first == std::string_view::npos) return;
    document = document.substr(first, document.find_last_not_of("\r\n") + 1 - first);
    check_size(document.size());
    visit_(std::string(document));
  }

  std::string source_name_;
  size_t max_bytes_;
  const std::function<void(std::string&& document)>& visit_;
  std::string text_;    // from the start of the current document
  size_t line_ = 0;     // where the current line starts in it
  size_t scanned_ = 0;  // how far it holds no unseen newline
};

}  // namespace

void for_each_document(const std::vector<std::filesystem::path>& files,
                       const std::function<void(std::string&& document)>& visit,
                       size_t max_document_bytes) {
  for (const auto& file : files) {
    DocumentSplitter splitter(file.string(), max_document_bytes, visit);
    for_each_piece(file, [&](std::string_view piece) { splitter.add(piece); });
    splitter.finish();
  }
}

}  // namespace tigon
