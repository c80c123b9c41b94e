#include "data/bpe/pre_tokenizer.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "data/bpe/byte_characters.h"

namespace tigon {
namespace {

struct Part {
  size_t begin, end;
  bool is_match;
};

/// Joins matches that stand alone, or first in a row of matches, with the stretch before.
std::vector<Part> merged_with_previous(const std::vector<Part>& parts) {
  std::vector<Part> merged;
  bool follows_match = false;
  for (const Part& part : parts) {
    if (part.is_match && !follows_match && !merged.empty()) {
      merged.back().end = part.end;
    } else {
      merged.push_back(part);
    }
    follows_match = part.is_match;
  }
  return merged;
}

/// The same from right to left.
std::vector<Part> merged_with_next(const std::vector<Part>& parts) {
  std::vector<Part> merged;
  bool precedes_match = false;
  for (size_t i = parts.size(); i-- > 0;) {
    if (parts[i].is_match && !precedes_match && !merged.empty()) {
      merged.back().begin = parts[i].begin;
    } else {
      merged.push_back(parts[i]);
    }
    precedes_match = parts[i].is_match;
  }
  std::reverse(merged.begin(), merged.end());
  return merged;
}

std::vector<Part> contiguous(const std::vector<Part>& parts) {
  std::vector<Part> merged;
  for (const Part& part : parts) {
    if (!merged.empty() && merged.back().is_match == part.is_match) {
      merged.back().end = part.end;
    } else {
      merged.push_back(part);
    }
  }
  return merged;
}

/// The pieces that a behavior makes of matches and stretches.
std::vector<Part> pieces_of(std::vector<Part> parts, SplitBehavior behavior) {
  switch (behavior) {
    case SplitBehavior::kRemoved:
      std::erase_if(parts, [](const Part& part) { return part.is_match; });
      return parts;
    case SplitBehavior::kMergedWithPrevious:
      return merged_with_previous(parts);
    case SplitBehavior::kMergedWithNext:
      return merged_with_next(parts);
    case SplitBehavior::kContiguous:
      return contiguous(parts);
    case SplitBehavior::kIsolated:
      break;
  }
  return parts;
}

void visit_parts(std::string_view piece, bool is_first, const std::vector<Part>& parts,
                 const VisitPiece& visit) {
  for (const Part& part : parts) {
    visit(piece.substr(part.begin, part.end - part.begin), is_first && part.begin == 0);
  }
}

}  // namespace

void PreTokenizer::add(SplitStep step) {
  constexpr size_t kMaxSteps = 100;
  if (steps_.size() == kMaxSteps) fail("pre_tokenizer: expected at most {} steps", kMaxSteps);
  steps_.push_back(std::move(step));
}

void PreTokenizer::split(std::string_view text, bool is_first, const VisitPiece& visit) const {
  split_from(0, text, is_first, visit);
}

void PreTokenizer::split_from(size_t step, std::string_view piece, bool is_first,
                              const VisitPiece& visit) const {
  if (piece.empty()) return;
  if (step == steps_.size()) return visit(piece, is_first);
  steps_[step](piece, is_first, [&](std::string_view part, bool is_first_part) {
    split_from(step + 1, part, is_first_part, visit);
  });
}

SplitStep pattern_step(Regex regex, SplitBehavior behavior, bool invert) {
  // By far the most common, and the only one that needs no list.
  if (behavior == SplitBehavior::kIsolated) {
    return
        [regex = std::move(regex)](std::string_view piece, bool is_first, const VisitPiece& visit) {
          regex.for_each_part(piece, [&](size_t begin, size_t end, bool) {
            visit(piece.substr(begin, end - begin), is_first && begin == 0);
          });
        };
  }
  return [regex = std::move(regex), behavior, invert](std::string_view piece, bool is_first,
                                                      const VisitPiece& visit) {
    std::vector<Part> parts;
    regex.for_each_part(piece, [&](size_t begin, size_t end, bool is_match) {
      parts.push_back({begin, end, is_match != invert});
    });
    visit_parts(piece, is_first, pieces_of(std::move(parts), behavior), visit);
  };
}

SplitStep prefix_space_step() {
  return [](std::string_view piece, bool is_first, const VisitPiece& visit) {
    if (piece.starts_with(' ')) return visit(piece, is_first);
    std::string spaced(1, ' ');
    spaced += piece;
    visit(spaced, is_first);
  };
}

SplitStep byte_characters_step() {
  return [](std::string_view piece, bool is_first, const VisitPiece& visit) {
    visit(characters_of_bytes(piece), is_first);
  };
}

SplitStep bytes_step() {
  return [](std::string_view piece, bool is_first, const VisitPiece& visit) {
    visit(bytes_of_characters(piece).value(), is_first);
  };
}

SplitStep metaspace_step(std::string replacement, PrependScheme scheme, bool split) {
  return [replacement = std::move(replacement), scheme, split](
             std::string_view piece, bool is_first, const VisitPiece& visit) {
    std::string text;
    for (const char c : piece) c == ' ' ? text.append(replacement) : text.append(1, c);
    const bool prepends =
        scheme == PrependScheme::kAlways || (scheme == PrependScheme::kFirst && is_first);
    if (prepends && !text.starts_with(replacement)) text.insert(0, replacement);
    const std::string_view all = text;
    if (!split) return visit(all, is_first);
    for (size_t begin = 0; begin < all.size();) {
      const size_t end = std::min(all.find(replacement, begin + 1), all.size());
      visit(all.substr(begin, end - begin), is_first && begin == 0);
      begin = end;
    }
  };
}

}  // namespace tigon
