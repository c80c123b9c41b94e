#include "data/text_splitter.h"

#include <algorithm>
#include <utility>

namespace tigon {

TextSplitter::TextSplitter(std::string separator, size_t max_bytes,
                           std::function<void(std::string&& document)> visit,
                           std::function<void()> too_long)
    : separator_(std::move(separator)),
      max_bytes_(max_bytes),
      visit_(std::move(visit)),
      too_long_(std::move(too_long)) {}

void TextSplitter::add(std::string_view piece) {
  text_.append(piece);
  size_t document = 0;
  for (size_t end; (end = text_.find('\n', scanned_)) != std::string::npos;) {
    const bool is_border = is_separator(line_, end);
    if (is_border) hand_over(document, line_);
    line_ = scanned_ = end + 1;
    if (is_border) document = line_;
  }
  line_ -= document;
  text_.erase(0, document);
  check_unfinished();
  scanned_ = text_.size();
}

void TextSplitter::finish() {
  const size_t end = is_separator(line_, text_.size()) ? line_ : text_.size();
  hand_over(0, end);
  text_.clear();
  line_ = scanned_ = 0;
}

/// Lines may end in "\r\n".
bool TextSplitter::is_separator(size_t begin, size_t end) const {
  std::string_view line = std::string_view(text_).substr(begin, end - begin);
  if (line == separator_) return true;
  return line.ends_with('\r') && line.substr(0, line.size() - 1) == separator_;
}

void TextSplitter::hand_over(size_t begin, size_t end) {
  if (std::exchange(is_too_long_, false)) return;
  std::string_view document = std::string_view(text_).substr(begin, end - begin);
  const size_t first = document.find_first_not_of("\r\n");
  if (first == std::string_view::npos) return;
  document = document.substr(first, document.find_last_not_of("\r\n") + 1 - first);
  if (document.size() > max_bytes_) return too_long_();
  visit_(std::string(document));
}

/// Lets go of a document that cannot become short enough any more.
void TextSplitter::check_unfinished() {
  // The newlines around it and the separator's line may still go.
  const size_t slack = separator_.size() + 4;
  if (!is_too_long_ && text_.size() > max_bytes_ + slack) {
    is_too_long_ = true;
    too_long_();
  }
  if (!is_too_long_) return;
  text_.erase(0, line_);
  line_ = 0;
  // What is left of a long line is too long to be taken for the separator.
  text_.resize(std::min(text_.size(), slack));
}

}  // namespace tigon
