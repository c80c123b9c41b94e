#include "train/html_page.h"

#include <map>

#include "embedded/report_files.h"

namespace tigon {
namespace {

/// JSON inside a script element: "<" must not start a tag there.
std::string embed_json(const Json& json) {
  std::string text;
  for (const char letter : json.dump(-1, ' ', false, Json::error_handler_t::replace)) {
    text += letter == '<' ? "\\u003c" : std::string(1, letter);
  }
  return text;
}

/// Replaces @NAME@ in one pass: what is put in is not looked at again.
std::string fill(std::string_view page, const std::map<std::string, std::string>& values) {
  std::string filled;
  while (true) {
    const size_t start = page.find('@');
    filled += page.substr(0, start);
    if (start == std::string_view::npos) return filled;
    page.remove_prefix(start + 1);
    const size_t end = page.find('@');
    const auto value = values.find(std::string(page.substr(0, end)));
    if (end == std::string_view::npos || value == values.end()) {
      filled += '@';
      continue;
    }
    filled += value->second;
    page.remove_prefix(end + 1);
  }
}

std::string embedded_file(std::string_view name) {
  return std::string(embedded::report_files(name));
}

}  // namespace

std::string escape_html(const std::string& text) {
  std::string escaped;
  for (const char letter : text) {
    switch (letter) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += letter;
    }
  }
  return escaped;
}

std::string html_page(const PageParts& parts) {
  return fill(parts.page, {{"TITLE", escape_html(parts.title + " – tigon")},
                           {"STYLE", embedded_file("report.css")},
                           {"DATA", embed_json(parts.data)},
                           {"CHART", embedded_file("chart.min.js")},
                           {"COMMON", embedded_file("page.js")},
                           {"SCRIPT", std::string(parts.script)}});
}

}  // namespace tigon
