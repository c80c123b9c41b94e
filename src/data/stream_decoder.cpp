#include <string_view>

#include "data/tokenizer.h"

namespace tigon {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
// A character takes four bytes: with three of them here, decoding shows three U+FFFD.
constexpr int kMaxPending = 3;
// Ids kept as context, so that a long text is not decoded again with every id.
constexpr size_t kMaxIds = 64, kKeptIds = 16;

/// How much of a decoded text cannot change any more when further ids come.
size_t settled_size(std::string_view text) {
  for (int i = 0; i < kMaxPending && text.ends_with(kReplacement); ++i) {
    text.remove_suffix(kReplacement.size());
  }
  return text.size();
}

}  // namespace

std::string StreamDecoder::push(int32_t id) {
  ids_.push_back(id);
  if (tokenizer_.may_change_earlier_text(id)) return "";
  const std::string text = tokenizer_.decode(ids_);
  const size_t settled = settled_size(text);
  if (settled <= emitted_) return "";
  std::string fresh = text.substr(emitted_, settled - emitted_);
  emitted_ = settled;
  if (ids_.size() >= kMaxIds && emitted_ == text.size()) {
    // The text of the first id may depend on being the first (a leading space is dropped): the
    // context must show some text, so that what follows is not taken for the beginning.
    const std::vector<int32_t> kept(ids_.end() - kKeptIds, ids_.end());
    const size_t shown = tokenizer_.decode(kept).size();
    if (shown > 0) {
      ids_ = kept;
      emitted_ = shown;
    }
  }
  return fresh;
}

std::string StreamDecoder::finish() {
  std::string rest = tokenizer_.decode(ids_).substr(emitted_);
  ids_.clear();
  emitted_ = 0;
  return rest;
}

}  // namespace tigon
