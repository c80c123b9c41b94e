// tigon sweep: a grid or a list of variants of one training config.
#include "sweep/sweep.h"

#include "command.h"
#include "core/interrupt.h"
#include "io/atomic_file.h"
#include "sweep/runs_html.h"

namespace tigon {
namespace {

constexpr const char* kFooter = R"(Examples:
  tigon sweep configs/sweeps/windows.yaml model.path=DIR data.train=train.txt data.validation=held-out.txt
  tigon sweep configs/sweeps/windows.yaml --dry-run folder=runs/other seeds=[0]

The YAML: base (a training config), set {key: value} for all runs, grid {key: [values]} and
list [{name, key: value}] for what varies, seeds, folder, parallel (runs at a time on one device)
and devices (auto, cpu, or a list of cuda:N).
Each run is a process with a folder of its own; the same command continues a sweep that was
interrupted or killed, and leaves what is done. A failed run is kept and the others go on.
Exit codes: 0 all done, 1 a run failed, 2 wrong usage or config, 130/143 interrupted after saving.)";

struct SweepArguments {
  std::string config;
  std::vector<std::string> overrides;
  bool is_dry_run = false, retry_failed = false, json = false;
};

std::string dry_run_text(const SweepPlan& plan) {
  const SweepOutcome now{read_sweep_state(plan), 0};
  return plan_to_text(plan) + totals_to_text(plan.config.folder.string(), now.runs) + "\n";
}

void sweep(const SweepArguments& arguments) {
  const SweepPlan plan = plan_sweep(read_sweep_config(arguments.config, arguments.overrides));
  if (arguments.is_dry_run) {
    arguments.json ? print_json(sweep_to_json(plan)) : print_text(dry_run_text(plan));
    return;
  }
  watch_for_interrupts();
  const std::filesystem::path folder = plan.config.folder;
  const SweepOutcome outcome =
      run_sweep(plan, {.program = std::filesystem::read_symlink("/proc/self/exe"),
                       .retry_failed = arguments.retry_failed});
  const RunReport report = make_report(read_runs({folder}));
  write_file_atomically(folder / "report.html",
                        runs_html(report, folder.filename().string(), folder));
  if (arguments.json) {
    print_json(report_to_json(report));
  } else {
    print_text(report_to_markdown(report) + "\nreport " + (folder / "report.html").string() + "\n");
  }
  if (outcome.interrupted_by != 0) exit_interrupted(outcome.interrupted_by);
  const int64_t done = outcome.count(RunStage::kDone);
  if (done < static_cast<int64_t>(outcome.runs.size())) {
    fail("{} of {} runs are not done; train.log and run.json in their folders say why",
         static_cast<int64_t>(outcome.runs.size()) - done, outcome.runs.size());
  }
}

}  // namespace

void add_sweep(CLI::App& app) {
  const auto arguments = std::make_shared<SweepArguments>();
  CLI::App* command =
      app.add_subcommand("sweep", "Run variants of a training config, several at a time");
  command->add_option("config", arguments->config, "the sweep's YAML file")
      ->required()
      ->type_name("CONFIG");
  command
      ->add_option("overrides", arguments->overrides,
                   "keys of the sweep (folder, seeds, …), or of the training config of every run")
      ->type_name("KEY.PATH=VALUE");
  command->add_flag("--dry-run", arguments->is_dry_run, "only list the runs");
  command->add_flag("--retry-failed", arguments->retry_failed,
                    "continue runs that failed in an earlier call");
  command->add_flag("--json", arguments->json, "print one JSON object instead of the table");
  command->footer(kFooter);
  command->callback([arguments] { sweep(*arguments); });
}

}  // namespace tigon
