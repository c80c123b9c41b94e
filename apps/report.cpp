// tigon report: several runs beside each other.
#include "command.h"
#include "core/log.h"
#include "io/atomic_file.h"
#include "sweep/runs_html.h"

namespace tigon {
namespace {

constexpr const char* kFooter = R"(Examples:
  tigon report runs/windows --html windows.html
  tigon report runs/liger-gla runs/window --csv runs.csv

RUN is a run folder, a sweep's folder or a folder of run folders. Prints a markdown table: the
settings that differ, tokens, parameters trained, losses in nats a token (teacher, plain windows,
converted, trained, recurrence switched off), recovered, bytes of state a sequence, time and
memory. Runs that differ only in their seed are one line: mean ± standard deviation.)";

struct ReportArguments {
  std::vector<std::string> runs;
  std::string csv_file, html_file;
  bool json = false;
};

void write_html(const RunReport& report, const ReportArguments& arguments) {
  const std::filesystem::path first = std::filesystem::absolute(arguments.runs[0] + "/.");
  const std::string title =
      arguments.runs.size() == 1 ? first.parent_path().filename().string() : "Runs";
  const std::filesystem::path page = std::filesystem::absolute(arguments.html_file);
  write_file_atomically(page, runs_html(report, title, page.parent_path()));
}

void report(const ReportArguments& arguments) {
  const RunReport report = make_report(read_runs({arguments.runs.begin(), arguments.runs.end()}));
  if (!arguments.csv_file.empty()) {
    write_file_atomically(arguments.csv_file, report_to_csv(report));
  }
  if (!arguments.html_file.empty()) write_html(report, arguments);
  arguments.json ? print_json(report_to_json(report)) : print_text(report_to_markdown(report));
}

}  // namespace

void add_report(CLI::App& app) {
  const auto arguments = std::make_shared<ReportArguments>();
  CLI::App* command = app.add_subcommand("report", "Tables and a page that compare runs");
  command->add_option("runs", arguments->runs, "run folders, sweep folders")
      ->required()
      ->type_name("RUN");
  command->add_option("--csv", arguments->csv_file, "write a line a run, numbers in full")
      ->type_name("FILE");
  command->add_option("--html", arguments->html_file, "write one self-contained page")
      ->type_name("FILE");
  command->add_flag("--json", arguments->json, "print one JSON object instead of the table");
  command->footer(kFooter);
  command->callback([arguments] { report(*arguments); });
}

}  // namespace tigon
