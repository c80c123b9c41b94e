#include <regex>

#include "io/atomic_file.h"
#include "io/json_file.h"
#include "support/browser.h"
#include "support/catch.h"
#include "support/shared_material.h"
#include "support/temporary_folder.h"
#include "train/html_page.h"
#include "train/report_html.h"
#include "train/tiny_run.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

constexpr const char* kHostile = "</script><script>alert(1)</script>&\"'@DATA@";

void write_run(const std::filesystem::path& folder) {
  write_json_file(folder / "run.json", {{"status", kHostile}, {"plan", {{"recipe", "none"}}}});
  write_file_atomically(folder / "config.yaml", std::string("model: '") + kHostile + "'\n");
  std::string lines;
  for (int step = 1; step <= 4000; ++step) {
    lines += Json({{"step", step}, {"loss", 2.0}, {"lr", 1e-3}, {"grad_norm", 1.0}}).dump() + "\n";
    if (step % 1000 == 0) lines += Json({{"step", step}, {"val_loss", 3.0}}).dump() + "\n";
  }
  write_file_atomically(folder / "metrics.jsonl", lines);
}

Json embedded_data(const std::string& page) {
  const std::string open = R"(id="data">)";
  const size_t start = page.find(open) + open.size();
  return Json::parse(page.substr(start, page.find("</script>", start) - start));
}

}  // namespace

TEST_CASE("the report is one file that loads nothing", "[report]") {
  const TemporaryFolder folder;
  write_run(folder.path());
  const std::string page = report_html(folder.path());
  for (const char* loading :
       {R"(<link)", R"(<script[^>]*\bsrc)", R"(<(img|iframe|object|embed|video|audio)\b)",
        R"(@import)", R"(url\()", R"(\bfetch\()", R"(XMLHttpRequest)", R"(\bimport\()"}) {
    INFO(loading);
    CHECK_FALSE(std::regex_search(page, std::regex(loading)));
  }
  CHECK(page.find("Chart.js v") != std::string::npos);
  CHECK(page.find("</html>") != std::string::npos);
  for (const char* placeholder : {"@TITLE@", "@STYLE@", "@CHART@", "@COMMON@", "@SCRIPT@"}) {
    CHECK(page.find(placeholder) == std::string::npos);
  }
}

TEST_CASE("text in a report cannot become markup", "[report]") {
  const TemporaryFolder folder;
  write_run(folder.path());
  const std::string page = report_html(folder.path());
  CHECK(page.find("<script>alert") == std::string::npos);
  const Json data = embedded_data(page);
  CHECK(data.at("run").at("status") == kHostile);
  CHECK(data.at("config").get<std::string>().find(kHostile) != std::string::npos);
  CHECK(escape_html("<a href='x'>\"&\"</a>") ==
        "&lt;a href=&#39;x&#39;&gt;&quot;&amp;&quot;&lt;/a&gt;");
}

TEST_CASE("long curves are thinned by averaging", "[report]") {
  const TemporaryFolder folder;
  write_run(folder.path());
  const Json curves = embedded_data(report_html(folder.path())).at("curves");
  CHECK(curves.at("train").size() == 1334);  // groups of three
  CHECK(curves.at("train").back().at("step") == 4000);
  CHECK(curves.at("train")[0].at("loss") == 2.0);
  CHECK(curves.at("validation").size() == 4);
}

TEST_CASE("the report of a run draws its curves and tables", "[report]") {
  const auto chromium = find_chromium();
  if (!chromium) return print_skip("needs Chromium, which is not installed");
  const TinyRun run;
  run_training(run.config(), false);
  const RenderedPage page = render(*chromium, run.run_folder() / "report.html");
  INFO(page.messages);
  CHECK(page.messages.find("Uncaught") == std::string::npos);
  for (const char* chart : {"loss", "lr", "grad-norm"}) {
    INFO(chart);
    // Chart.js gives a canvas its size when it draws.
    const std::regex drawn(std::string("<canvas id=\"") + chart + "\"[^>]*display: block");
    CHECK(std::regex_search(page.document, drawn));
  }
  for (const char* text : {"Trained, recurrence off", "Memory of one sequence", "12 of 12"}) {
    INFO(text);
    CHECK(page.document.find(text) != std::string::npos);
  }
}
