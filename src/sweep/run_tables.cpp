// A report as markdown and CSV.
#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>

#include "core/format.h"
#include "sweep/run_names.h"
#include "sweep/run_report.h"

namespace tigon {
namespace {

using Row = std::vector<std::string>;

/// A budget that varies has a column among the settings.
bool is_a_setting(const ReportNumber& number, const std::vector<std::string>& differing) {
  return std::string_view(number.id) == "tokens" &&
         std::ranges::find(differing, "train.tokens") != differing.end();
}

/// The numbers that say something of any group.
std::vector<ReportNumber> shown_numbers(const RunReport& report) {
  std::vector<ReportNumber> shown;
  for (const ReportNumber& number : report_numbers()) {
    if (is_a_setting(number, report.differing)) continue;
    const auto has_it = [&](const RunGroup& group) {
      const auto found = group.numbers.find(number.id);
      return found != group.numbers.end() && found->second.mean != 0;
    };
    if (number.is_in_tables && std::ranges::any_of(report.groups, has_it)) shown.push_back(number);
  }
  return shown;
}

std::string show(const ReportNumber& number, const Spread& spread) {
  const std::string mean = number.show(spread.mean);
  if (!number.is_measured || spread.deviation == 0) return mean;
  return mean + " ± " + number.show_spread(spread.deviation);
}

/// Padded, so that it reads as a table in a terminal too; the first column is text.
std::string markdown_table(const std::vector<Row>& rows) {
  std::vector<size_t> widths(rows.at(0).size(), 3);
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], display_width(row[i]));
  }
  std::string text;
  const auto add = [&](const Row& row) {
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - display_width(row[i]), ' ');
      text += fmt::format("| {}{} ", i == 0 ? row[i] : padding, i == 0 ? padding : row[i]);
    }
    text += "|\n";
  };
  add(rows[0]);
  for (size_t i = 0; i < widths.size(); ++i) {
    // A colon aligns to the right.
    text += fmt::format("|{}{}", std::string(widths[i] + 1, '-'), i == 0 ? '-' : ':');
  }
  text += "|\n";
  for (size_t i = 1; i < rows.size(); ++i) add(rows[i]);
  return text;
}

/// '|' would end a cell.
std::string in_cell(std::string text) {
  for (size_t place = 0; (place = text.find('|', place)) != std::string::npos; place += 2) {
    text.insert(place, "\\");
  }
  return text;
}

std::string in_csv(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char letter : text) quoted += letter == '"' ? "\"\"" : std::string(1, letter);
  return quoted + "\"";
}

std::string unfinished_text(const RunSummary& run) {
  if (run.status == "failed") return "failed: " + run.reason.substr(0, run.reason.find('\n'));
  if (run.status == "waiting") return "waiting";
  return fmt::format("unfinished, step {} of {}", run.steps, run.planned_steps);
}

}  // namespace

std::string report_to_markdown(const RunReport& report) {
  const std::vector<ReportNumber> numbers = shown_numbers(report);
  const auto is_several = [](const RunGroup& group) { return group.runs.size() > 1; };
  const bool has_seeds = std::ranges::any_of(report.groups, is_several);
  const auto short_keys = shortest_keys(report.differing);
  Row header = {"run"};
  for (const std::string& key : report.differing) header.push_back(in_cell(short_keys.at(key)));
  for (const ReportNumber& number : numbers) header.emplace_back(number.title);
  if (has_seeds) header.emplace_back("seeds");
  std::vector<Row> rows = {header};
  for (const RunGroup& group : report.groups) {
    Row row = {in_cell(group.name)};
    for (const std::string& key : report.differing) {
      const auto found = group.settings.find(key);
      row.push_back(found == group.settings.end() ? "–" : in_cell(show_setting(found->second)));
    }
    for (const ReportNumber& number : numbers) {
      const auto found = group.numbers.find(number.id);
      row.push_back(found == group.numbers.end() ? "–" : show(number, found->second));
    }
    if (has_seeds) row.push_back(std::to_string(group.runs.size()));
    rows.push_back(std::move(row));
  }
  std::string text = report.groups.empty() ? "No run is complete.\n" : markdown_table(rows);
  std::string others;
  for (const RunSummary& run : report.runs) {
    if (!run.is_complete()) others += fmt::format("- {}: {}\n", run.name, unfinished_text(run));
  }
  if (!others.empty()) text += "\nNot complete:\n\n" + others;
  return text;
}

std::string report_to_csv(const RunReport& report) {
  Row header = {"run", "folder", "status", "reason", "seed"};
  header.insert(header.end(), report.differing.begin(), report.differing.end());
  for (const ReportNumber& number : report_numbers()) header.emplace_back(number.id);
  std::vector<Row> rows = {header};
  for (const RunSummary& run : report.runs) {
    Row row = {run.name, run.folder.string(), run.status, run.reason,
               run.seed ? std::to_string(*run.seed) : ""};
    for (const std::string& key : report.differing) {
      const auto found = run.settings.find(key);
      row.push_back(found == run.settings.end() ? "" : found->second);
    }
    for (const ReportNumber& number : report_numbers()) {
      const auto found = run.numbers.find(number.id);
      row.push_back(found == run.numbers.end() ? "" : fmt::format("{}", found->second));
    }
    rows.push_back(std::move(row));
  }
  std::string text;
  for (Row& row : rows) {
    std::ranges::transform(row, row.begin(), in_csv);
    text += fmt::format("{}\n", fmt::join(row, ","));
  }
  return text;
}

}  // namespace tigon
