#include "core/table.h"

#include <algorithm>
#include <cstddef>

#include "core/format.h"

namespace tigon {

namespace {

std::string format_row(const std::vector<std::string>& cells, const std::vector<size_t>& widths) {
  std::string line;
  for (size_t column = 0; column < widths.size(); ++column) {
    const std::string cell = column < cells.size() ? cells[column] : "";
    const std::string padding(widths[column] - display_width(cell), ' ');
    if (column > 0) line += "  ";
    line += column == 0 ? cell + padding : padding + cell;
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

}  // namespace

std::string format_table(const std::vector<std::string>& header,
                         const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  const auto widen = [&](const std::vector<std::string>& cells) {
    widths.resize(std::max(widths.size(), cells.size()), 0);
    for (size_t i = 0; i < cells.size(); ++i)
      widths[i] = std::max(widths[i], display_width(cells[i]));
  };
  widen(header);
  for (const auto& row : rows) widen(row);

  std::vector<std::string> rule;
  for (const size_t width : widths) rule.emplace_back(width, '-');
  std::string text = format_row(header, widths) + format_row(rule, widths);
  for (const auto& row : rows) text += format_row(row, widths);
  return text;
}

}  // namespace tigon
