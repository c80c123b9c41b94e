// tigon inspect: what a folder holds.
#include "linearize/inspect.h"

#include "command.h"

namespace tigon {
namespace {

constexpr const char* kFooter = R"(Example:
  tigon inspect DIR --json

DIR is a teacher's, a linearized or an adapter folder. Reads only headers.)";

}  // namespace

void add_inspect(CLI::App& app) {
  struct InspectOptions {
    std::string folder;
    bool json = false;
  };
  CLI::App* command =
      app.add_subcommand("inspect", "Layers, parameters and memory of a model or adapter folder");
  const auto options = std::make_shared<InspectOptions>();
  command->add_option("folder", options->folder, "model or adapter folder")
      ->required()
      ->type_name("DIR");
  command->add_flag("--json", options->json, "print one JSON object");
  command->footer(kFooter);
  command->callback([options] {
    const FolderSummary summary = inspect_folder(options->folder);
    if (options->json) return print_json(summary_to_json(summary));
    print_text(summary_to_text(summary));
  });
}

}  // namespace tigon
