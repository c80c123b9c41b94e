#include "train/report_html.h"

#include <algorithm>
#include <map>
#include <vector>

#include "core/error.h"
#include "embedded/report_files.h"
#include "train/metrics.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostPoints = 1500;  // of one curve: more cannot be told apart on a screen

/// Neighbouring steps averaged, so that a curve has at most kMostPoints.
Json thinned(const std::vector<Json>& lines) {
  const size_t group = (lines.size() + kMostPoints - 1) / kMostPoints;
  Json points = Json::array();
  for (size_t start = 0; start < lines.size(); start += group) {
    const size_t end = std::min(start + group, lines.size());
    Json point = {{"step", lines[end - 1].at("step")}};
    for (const char* key : {"loss", "lr", "grad_norm"}) {
      double sum = 0;
      for (size_t i = start; i < end; ++i) sum += lines[i].at(key).get<double>();
      point[key] = sum / static_cast<double>(end - start);
    }
    points.push_back(point);
  }
  return points;
}

Json curves(const fs::path& metrics_file) {
  std::vector<Json> steps;
  Json validations = Json::array();
  for (const Json& line : read_metrics(metrics_file)) {
    if (line.contains("val_loss")) {
      validations.push_back(line);
    } else {
      steps.push_back(line);
    }
  }
  return {{"train", thinned(steps)}, {"validation", validations}};
}

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

std::string report_html(const fs::path& run_folder) {
  const std::string name = fs::absolute(run_folder / "run.json").parent_path().filename().string();
  const Json data = {{"name", name},
                     {"run", read_json_file(run_folder / "run.json")},
                     {"curves", curves(run_folder / "metrics.jsonl")},
                     {"config", read_text_file(run_folder / "config.yaml")}};
  return fill(embedded::report_files("report.html"), {{"TITLE", escape_html(name + " – tigon")},
                                                      {"STYLE", embedded_file("report.css")},
                                                      {"DATA", embed_json(data)},
                                                      {"CHART", embedded_file("chart.min.js")},
                                                      {"SCRIPT", embedded_file("report.js")}});
}

}  // namespace tigon
