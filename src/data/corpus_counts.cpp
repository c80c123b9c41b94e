#include "data/corpus_counts.h"

#include <fmt/format.h>

namespace tigon {

std::string counts_to_text(const CorpusCounts& counts) {
  std::string reasons;
  const auto add = [&](int64_t count, const char* reason) {
    if (count == 0) return;
    reasons += fmt::format("{}{} {}", reasons.empty() ? "" : ", ", count, reason);
  };
  add(counts.empty, "empty");
  add(counts.malformed, "malformed");
  add(counts.without_field, "without the field");
  add(counts.too_long, "too long");
  std::string text = fmt::format("{} documents", counts.documents);
  if (!reasons.empty()) text += fmt::format(", {} skipped ({})", counts.skipped(), reasons);
  return text;
}

}  // namespace tigon
