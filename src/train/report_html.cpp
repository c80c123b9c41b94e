#include "train/report_html.h"

#include <algorithm>
#include <vector>

#include "embedded/report_files.h"
#include "train/html_page.h"
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

}  // namespace

std::string report_html(const fs::path& run_folder) {
  const std::string name = fs::absolute(run_folder / "run.json").parent_path().filename().string();
  const Json data = {{"name", name},
                     {"run", read_json_file(run_folder / "run.json")},
                     {"curves", curves(run_folder / "metrics.jsonl")},
                     {"config", read_text_file(run_folder / "config.yaml")}};
  return html_page({.title = name,
                    .page = embedded::report_files("report.html"),
                    .data = data,
                    .script = embedded::report_files("report.js")});
}

}  // namespace tigon
