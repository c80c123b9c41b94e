#include "data/record_splitter.h"

namespace tigon {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

class LineSplitter final : public RecordSplitter {
 public:
  LineSplitter(Visitor visit, size_t max_bytes) : visit_(std::move(visit)), max_bytes_(max_bytes) {}

  void add(std::string_view piece) override {
    while (!piece.empty()) {
      const size_t end = piece.find('\n');
      append(piece.substr(0, end));
      if (end == std::string_view::npos) return;
      hand_over();
      piece.remove_prefix(end + 1);
    }
  }

  void finish() override { hand_over(); }

 private:
  void append(std::string_view part) {
    is_too_long_ = is_too_long_ || text_.size() + part.size() > max_bytes_;
    if (is_too_long_) {
      text_.clear();
    } else {
      text_.append(part);
    }
  }

  void hand_over() {
    std::string_view text = text_;
    if (line_ == 1 && text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
    const bool is_blank = text.find_first_not_of(" \t\r") == std::string_view::npos;
    if (is_too_long_ || !is_blank) visit_({text, line_, is_too_long_});
    text_.clear();
    is_too_long_ = false;
    ++line_;
  }

  Visitor visit_;
  size_t max_bytes_;
  std::string text_;
  int64_t line_ = 1;
  bool is_too_long_ = false;
};

}  // namespace

std::unique_ptr<RecordSplitter> make_line_splitter(RecordSplitter::Visitor visit,
                                                   size_t max_record_bytes) {
  return std::make_unique<LineSplitter>(std::move(visit), max_record_bytes);
}

}  // namespace tigon
