// The documents of a text file as it streams by.
#pragma once
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace tigon {

/// Finds documents between lines that hold nothing but `separator`. Newlines around a document are
/// stripped, those inside are kept; empty documents are left out.
class TextSplitter {
 public:
  /// `too_long` is called for a document of more than `max_bytes`, which is then left out.
  TextSplitter(std::string separator, size_t max_bytes,
               std::function<void(std::string&& document)> visit, std::function<void()> too_long);

  void add(std::string_view piece);
  /// The end of the file, which ends a document.
  void finish();

 private:
  bool is_separator(size_t begin, size_t end) const;
  void hand_over(size_t begin, size_t end);
  void check_unfinished();

  std::string separator_;
  size_t max_bytes_;
  std::function<void(std::string&& document)> visit_;
  std::function<void()> too_long_;
  std::string text_;    // from the start of the current document
  size_t line_ = 0;     // where the current line starts in it
  size_t scanned_ = 0;  // how far it holds no unseen newline
  bool is_too_long_ = false;
};

}  // namespace tigon
