// The pages of one run and of several, in a browser.
#include <regex>

#include "support/browser.h"
#include "support/catch.h"
#include "support/shared_material.h"
#include "sweep/runs_html.h"
#include "sweep/written_runs.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

std::string page_of(const TemporaryFolder& folder) {
  write_runs(folder.path());
  write_file_atomically(folder / "window_window_keys-16/report.html", "<p>one run</p>");
  return runs_html(make_report(read_runs({folder.path()})), "windows", folder.path());
}

/// The opening tag of the element with this id.
std::string opening_tag(const std::string& document, const std::string& id) {
  const size_t place = document.find("id=\"" + id + "\"");
  if (place == std::string::npos) return {};
  const size_t start = document.rfind('<', place);
  return document.substr(start, document.find('>', place) - start);
}

}  // namespace

TEST_CASE("the page of several runs is one file that loads nothing", "[pages]") {
  const TemporaryFolder folder;
  const std::string page = page_of(folder);
  for (const char* loading :
       {R"(<link)", R"(<script[^>]*\bsrc)", R"(<(img|iframe|object|embed|video|audio)\b)",
        R"(@import)", R"(url\()", R"(\bfetch\()", R"(XMLHttpRequest)", R"(\bimport\()"}) {
    INFO(loading);
    CHECK_FALSE(std::regex_search(page, std::regex(loading)));
  }
  CHECK(page.find("Chart.js v") != std::string::npos);
  CHECK(page.find("@SCRIPT@") == std::string::npos);
}

TEST_CASE("the page of several runs draws its charts and tables", "[pages]") {
  const auto chromium = find_chromium();
  if (!chromium) return print_skip("needs Chromium, which is not installed");
  const TemporaryFolder folder;
  const auto file = folder.write("page.html", page_of(folder));
  const RenderedPage page = render(*chromium, file);
  INFO(page.messages);
  CHECK(page.messages.find("Uncaught") == std::string::npos);
  CHECK(page.document.find("<h1 id=\"title\">windows</h1>") != std::string::npos);
  CHECK(page.document.find("8 runs · 6 complete · 1 failed · 1 unfinished") != std::string::npos);
  for (const char* chart : {"state-chart", "validation-chart", "recovered-chart", "branch-chart",
                            "speed-chart", "memory-chart"}) {
    INFO(chart);
    // Chart.js gives a canvas its size when it draws.
    CHECK(opening_tag(page.document, chart).find("display: block") != std::string::npos);
  }
  for (const char* text :
       {"3.1310 ± 0.0010", "86.0 % ± 1.0", "step 12: the loss is nan", "12 of 30", "48 KiB",
        "href=\"window_window_keys-16/report.html\"", "lowest trained loss"}) {
    INFO(text);
    CHECK(page.document.find(text) != std::string::npos);
  }
}

TEST_CASE("a run that is far off does not squeeze the charts of all others", "[pages]") {
  const auto chromium = find_chromium();
  if (!chromium) return print_skip("needs Chromium, which is not installed");
  const TemporaryFolder folder;
  write_runs(folder.path());
  for (const int64_t tokens : {1'000'000, 2'000'000}) {
    write_run(folder.path(), {.name = fmt::format("supra-{}", tokens),
                              .recipe = "supra",
                              .tokens = tokens,
                              .trained = 4.9,
                              .recovered = -8.3});
  }
  const auto file = folder.write(
      "page.html", runs_html(make_report(read_runs({folder.path()})), "far", folder.path()));
  const RenderedPage page = render(*chromium, file);
  INFO(page.messages);
  CHECK(page.messages.find("Uncaught") == std::string::npos);
  const std::string note = "2 marks lie beyond the axis; the table has all.";
  const size_t in_state = page.document.find(note);
  REQUIRE(in_state != std::string::npos);
  CHECK(page.document.find(note, in_state + 1) != std::string::npos);  // recovered
  CHECK(page.document.find("4.9000") != std::string::npos);
}

TEST_CASE("text in a page of several runs cannot become markup", "[pages]") {
  const auto chromium = find_chromium();
  if (!chromium) return print_skip("needs Chromium, which is not installed");
  const TemporaryFolder folder;
  write_run(folder.path(), {.name = "<b>bold", .status = "failed", .error = "</script><i id=x>"});
  const auto file = folder.write(
      "page.html", runs_html(make_report(read_runs({folder / "<b>bold"})), "<u>t", folder.path()));
  const RenderedPage page = render(*chromium, file);
  INFO(page.messages);
  CHECK(page.messages.find("Uncaught") == std::string::npos);
  CHECK(page.document.find("&lt;b&gt;bold") != std::string::npos);
  CHECK(page.document.find("<b>bold") == std::string::npos);
  CHECK(page.document.find("<i id=") == std::string::npos);
}
