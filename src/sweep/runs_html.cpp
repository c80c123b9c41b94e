#include "sweep/runs_html.h"

#include "embedded/runs_files.h"
#include "sweep/run_names.h"
#include "train/html_page.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostPoints = 300;  // of one run's validations

Json curve(const std::vector<CurvePoint>& points) {
  Json thinned = Json::array();
  const size_t every = (points.size() + kMostPoints - 1) / kMostPoints;
  for (size_t i = 0; i < points.size(); ++i) {
    const bool is_kept = i % every == 0 || i + 1 == points.size();
    if (is_kept) thinned.push_back({{"x", points[i].tokens}, {"y", points[i].loss}});
  }
  return thinned;
}

/// The link to a run's own page; empty if it has none.
std::string link_to(const fs::path& run_folder, const fs::path& page_folder) {
  if (!fs::exists(run_folder / "report.html")) return {};
  return fs::proximate(run_folder / "report.html", page_folder).generic_string();
}

}  // namespace

std::string runs_html(const RunReport& report, const std::string& title, const fs::path& folder) {
  Json data = report_to_json(report);
  data["title"] = title;
  data["short_keys"] = shortest_keys(report.differing);
  data["numbers"] = Json::array();
  for (const ReportNumber& number : report_numbers()) {
    if (!number.is_in_tables) continue;
    data["numbers"].push_back(
        {{"id", number.id}, {"title", number.title}, {"measured", number.is_measured}});
  }
  for (size_t i = 0; i < report.runs.size(); ++i) {
    const RunSummary& run = report.runs[i];
    data["runs"][i]["validations"] = curve(run.validations);
    data["runs"][i]["link"] = link_to(run.folder, folder);
  }
  for (size_t i = 0; i < report.groups.size(); ++i) {
    data["groups"][i]["indices"] = report.groups[i].runs;
  }
  return html_page({.title = title,
                    .page = embedded::runs_files("runs.html"),
                    .data = std::move(data),
                    .script = embedded::runs_files("runs.js")});
}

}  // namespace tigon
