#include "core/table.h"

#include <algorithm>
#include <cstddef>
#include <string_view>

#include "core/format.h"

namespace tigon {

namespace {

struct Column {
  size_t width = 0;
  bool is_words = true;  // left-aligned
};

/// Whether a cell begins with a number.
bool is_number(std::string_view cell) {
  for (const std::string_view sign : {"+", "-", "−"}) {
    if (cell.starts_with(sign)) {
      cell.remove_prefix(sign.size());
      break;
    }
  }
  return !cell.empty() && cell[0] >= '0' && cell[0] <= '9';
}

std::string format_row(const std::vector<std::string>& cells, const std::vector<Column>& columns) {
  std::string line;
  for (size_t i = 0; i < columns.size(); ++i) {
    const std::string cell = i < cells.size() ? cells[i] : "";
    const std::string padding(columns[i].width - display_width(cell), ' ');
    if (i > 0) line += "  ";
    line += columns[i].is_words ? cell + padding : padding + cell;
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

}  // namespace

std::string format_table(const std::vector<std::string>& header,
                         const std::vector<std::vector<std::string>>& rows) {
  std::vector<Column> columns;
  const auto widen = [&](const std::vector<std::string>& cells) {
    columns.resize(std::max(columns.size(), cells.size()));
    for (size_t i = 0; i < cells.size(); ++i)
      columns[i].width = std::max(columns[i].width, display_width(cells[i]));
  };
  widen(header);
  for (const auto& row : rows) {
    widen(row);
    for (size_t i = 1; i < row.size(); ++i) {
      if (is_number(row[i])) columns[i].is_words = false;
    }
  }

  std::vector<std::string> rule;
  for (const Column& column : columns) rule.emplace_back(column.width, '-');
  std::string text = format_row(header, columns) + format_row(rule, columns);
  for (const auto& row : rows) text += format_row(row, columns);
  return text;
}

}  // namespace tigon
