#include "core/suggestion.h"

#include <algorithm>
#include <limits>

namespace tigon {

int edit_distance(std::string_view a, std::string_view b) {
  // Three rows of the table: the swap of neighbours looks two rows back.
  std::vector<int> before_last(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({replaced, last[j] + 1, row[j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before_last[j - 2] + 1);
      }
    }
    std::swap(before_last, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

std::string nearest_path(const std::string& path, const std::vector<std::string>& known) {
  const auto split = [](std::string_view text) {
    const size_t dot = text.rfind('.');
    return dot == std::string_view::npos ? std::pair(std::string_view(), text)
                                         : std::pair(text.substr(0, dot), text.substr(dot + 1));
  };
  const auto [section, word] = split(path);
  const int bound = std::max<int>(1, (static_cast<int>(word.size()) + 2) / 3);
  std::string nearest;
  int nearest_cost = std::numeric_limits<int>::max();
  for (const std::string& candidate : known) {
    const auto [candidate_section, candidate_word] = split(candidate);
    const int distance = edit_distance(word, candidate_word);
    const int cost = 2 * distance + (candidate_section == section ? 0 : 1);
    if (distance <= bound && cost < nearest_cost) {
      nearest = candidate;
      nearest_cost = cost;
    }
  }
  return nearest;
}

}  // namespace tigon
