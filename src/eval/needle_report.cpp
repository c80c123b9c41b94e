#include <algorithm>
#include <set>

#include "core/table.h"
#include "eval/needle.h"

namespace tigon {
namespace {

constexpr const char* kPageHead = R"(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Needle test</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1c2430; }
table { border-collapse: collapse; margin: 0 0 2rem; }
th, td { padding: .5rem .8rem; text-align: right; font-variant-numeric: tabular-nums; }
th { font-weight: 600; color: #55606e; }
td { min-width: 4.5rem; border: 2px solid #fff; border-radius: 6px; }
small { display: block; color: inherit; opacity: .75; }
p { color: #55606e; }
</style></head><body>
<h1>Needle test</h1>
<p>A pass key in prose, asked for at the end: the share of keys that greedy decoding gives whole, and below it
the nats a token of the key. Down: where in the prose the key is. Across: tokens of the whole prompt.</p>
)";

struct Axes {
  explicit Axes(const std::vector<NeedleCell>& cells) {
    for (const NeedleCell& cell : cells) {
      lengths.insert(cell.length);
      depths.insert(cell.depth);
    }
  }
  std::set<int64_t> lengths;
  std::set<double> depths;
};

const NeedleCell& cell_at(const std::vector<NeedleCell>& cells, int64_t length, double depth) {
  return *std::ranges::find_if(
      cells, [&](const NeedleCell& cell) { return cell.length == length && cell.depth == depth; });
}

double share_found(const NeedleCell& cell) {
  return static_cast<double>(cell.found) / static_cast<double>(cell.trials);
}

/// Pale to dark green; the text turns white where the ground is dark.
std::string colours(double share) {
  return fmt::format("background:hsl(152 45% {:.0f}%);color:{}", 94 - 60 * share,
                     share > 0.55 ? "#fff" : "#1c2430");
}

}  // namespace

Json needle_to_json(const std::vector<NeedleResult>& results) {
  Json json = Json::object();
  for (const NeedleResult& result : results) {
    Json cells = Json::array();
    for (const NeedleCell& cell : result.cells) {
      cells.push_back({{"length", cell.length},
                       {"depth", cell.depth},
                       {"trials", cell.trials},
                       {"found", cell.found},
                       {"nats_per_token", cell.nats_per_token}});
    }
    json[result.name] = std::move(cells);
  }
  return json;
}

std::string needle_to_text(const std::vector<NeedleResult>& results) {
  std::string text;
  for (const NeedleResult& result : results) {
    const Axes axes(result.cells);
    std::vector<std::string> header = {fmt::format("{}, keys found", result.name)};
    for (const int64_t length : axes.lengths) header.push_back(fmt::format("{}", length));
    std::vector<std::vector<std::string>> lines;
    for (const double depth : axes.depths) {
      std::vector<std::string> line = {fmt::format("depth {:.0f} %", 100 * depth)};
      for (const int64_t length : axes.lengths) {
        line.push_back(
            fmt::format("{:.0f} %", 100 * share_found(cell_at(result.cells, length, depth))));
      }
      lines.push_back(std::move(line));
    }
    std::vector<std::string> nats = {"nats a token of the key"};
    for (const int64_t length : axes.lengths) {
      double sum = 0;
      for (const double depth : axes.depths) {
        sum += cell_at(result.cells, length, depth).nats_per_token;
      }
      nats.push_back(fmt::format("{:.2f}", sum / static_cast<double>(axes.depths.size())));
    }
    lines.push_back(std::move(nats));
    if (!text.empty()) text += "\n";
    text += format_table(header, lines);
  }
  return text;
}

std::string needle_to_html(const std::vector<NeedleResult>& results) {
  std::string page = kPageHead;
  for (const NeedleResult& result : results) {
    const Axes axes(result.cells);
    page += fmt::format("<h2>{}</h2>\n<table><tr><th></th>", result.name);
    for (const int64_t length : axes.lengths) page += fmt::format("<th>{}</th>", length);
    page += "</tr>\n";
    for (const double depth : axes.depths) {
      page += fmt::format("<tr><th>{:.0f} %</th>", 100 * depth);
      for (const int64_t length : axes.lengths) {
        const NeedleCell& cell = cell_at(result.cells, length, depth);
        page +=
            fmt::format("<td style=\"{}\">{:.0f} %<small>{:.2f}</small></td>",
                        colours(share_found(cell)), 100 * share_found(cell), cell.nats_per_token);
      }
      page += "</tr>\n";
    }
    page += "</table>\n";
  }
  return page + "</body></html>\n";
}

}  // namespace tigon
