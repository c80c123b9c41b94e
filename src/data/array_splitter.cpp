#include <string>
#include <utility>

#include "core/error.h"
#include "data/record_splitter.h"

namespace tigon {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/// Follows brackets and strings; the elements' own grammar is left to the parser that reads them.
class ArraySplitter final : public RecordSplitter {
 public:
  ArraySplitter(std::string source_name, Visitor visit, size_t max_bytes)
      : source_name_(std::move(source_name)), visit_(std::move(visit)), max_bytes_(max_bytes) {}

  void add(std::string_view piece) override {
    for (const char c : piece) {
      if (place_ == Place::kElement) {
        add_to_element(c);
      } else if (!is_space(c) && !is_mark(c)) {
        add_between(c);
      }
      if (c == '\n') ++line_;
      ++bytes_;
    }
  }

  void finish() override {
    if (place_ == Place::kAfterArray) return;
    fail("{} line {}: expected a JSON array of records, found the end of the file", source_name_,
         line_);
  }

 private:
  enum class Place {
    kBeforeArray,
    kBeforeFirst,
    kBeforeElement,
    kElement,
    kAfterElement,
    kAfterArray
  };

  bool is_mark(char c) const {
    return bytes_ < kByteOrderMark.size() && c == kByteOrderMark[bytes_];
  }

  [[noreturn]] void refuse(const char* expected, char found) const {
    fail("{} line {}: expected {}, found '{}'", source_name_, line_, expected, found);
  }

  /// A character outside the elements that is no white space.
  void add_between(char c) {
    switch (place_) {
      case Place::kBeforeArray:
        if (c != '[') {
          refuse("a JSON array of records ([…]; a file with a record a line is named .jsonl)", c);
        }
        place_ = Place::kBeforeFirst;
        return;
      case Place::kBeforeFirst:
      case Place::kBeforeElement:
        if (c == ']' && place_ == Place::kBeforeFirst) {
          place_ = Place::kAfterArray;
        } else if (c == ',' || c == ']' || c == '}' || c == ':') {
          refuse("a record", c);
        } else {
          start_element(c);
        }
        return;
      case Place::kAfterElement:
        if (c != ',' && c != ']') refuse("a comma or the end of the array", c);
        place_ = c == ',' ? Place::kBeforeElement : Place::kAfterArray;
        return;
      case Place::kAfterArray:
        refuse("nothing after the array", c);
      case Place::kElement:
        break;
    }
  }

  void start_element(char c) {
    place_ = Place::kElement;
    element_line_ = line_;
    depth_ = 0;
    is_in_string_ = is_escaped_ = is_too_long_ = false;
    add_to_element(c);
  }

  void add_to_element(char c) {
    // A plain value, a number say, ends where the array goes on.
    if (depth_ == 0 && !is_in_string_ && !text_.empty() && (c == ',' || c == ']')) {
      end_element();
      return add_between(c);
    }
    keep(c);
    if (is_in_string_) {
      is_in_string_ = is_escaped_ || c != '"';
      is_escaped_ = !is_escaped_ && c == '\\';
      return;
    }
    if (c == '"') is_in_string_ = true;
    if (c == '{' || c == '[') ++depth_;
    if (c == '}' || c == ']') {
      --depth_;
      if (depth_ <= 0) end_element();
    }
  }

  void keep(char c) {
    is_too_long_ = is_too_long_ || text_.size() >= max_bytes_;
    if (!is_too_long_) text_.push_back(c);
  }

  void end_element() {
    visit_(
        {is_too_long_ ? std::string_view() : std::string_view(text_), element_line_, is_too_long_});
    text_.clear();
    place_ = Place::kAfterElement;
  }

  std::string source_name_;
  Visitor visit_;
  size_t max_bytes_;
  Place place_ = Place::kBeforeArray;
  std::string text_;  // of the current element
  int64_t line_ = 1, element_line_ = 1;
  size_t bytes_ = 0;
  int64_t depth_ = 0;
  bool is_in_string_ = false, is_escaped_ = false, is_too_long_ = false;
};

}  // namespace

std::unique_ptr<RecordSplitter> make_array_splitter(const std::string& source_name,
                                                    RecordSplitter::Visitor visit,
                                                    size_t max_record_bytes) {
  return std::make_unique<ArraySplitter>(source_name, std::move(visit), max_record_bytes);
}

}  // namespace tigon
