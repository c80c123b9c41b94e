// tigon train: one YAML, one run.
#include "train/train.h"

#include "command.h"
#include "core/interrupt.h"

namespace tigon {
namespace {

struct TrainArguments {
  std::string config;
  std::vector<std::string> overrides;
  bool resume = false, is_dry_run = false, json = false;
};

void train(const TrainArguments& arguments) {
  const RunConfig config = read_run_config(arguments.config, arguments.overrides);
  if (arguments.is_dry_run) {
    print_text(dry_run(config));
    return;
  }
  watch_for_interrupts();
  const TrainOutcome outcome = run_training(config, arguments.resume);
  if (arguments.json) {
    print_json(outcome.run);
  } else {
    print_text(outcome.summary);
  }
  if (outcome.interrupted_by != 0) exit_interrupted(outcome.interrupted_by);
}

}  // namespace

void add_train(CLI::App& app) {
  auto arguments = std::make_shared<TrainArguments>();
  CLI::App* command = app.add_subcommand(
      "train", "Load, convert, train, evaluate and export, as one YAML file says");
  command->add_option("config", arguments->config, "the run's YAML file")
      ->required()
      ->type_name("CONFIG");
  command
      ->add_option("overrides", arguments->overrides,
                   "values that replace the file's, e.g. train.optimizer.lr=5e-4")
      ->type_name("KEY.PATH=VALUE");
  command->add_flag("--resume", arguments->resume,
                    "continue the run in run.folder from its last checkpoint");
  command->add_flag("--dry-run", arguments->is_dry_run,
                    "only say what the run would take: parameters, memory, time");
  command->add_flag("--json", arguments->json, "print run.json instead of the table");
  command->callback([arguments] { train(*arguments); });
}

}  // namespace tigon
