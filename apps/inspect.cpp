// tigon inspect: what a folder holds, and how long its recurrences remember.
#include "linearize/inspect.h"

#include "command.h"
#include "core/error.h"
#include "eval/half_lives.h"
#include "linearize/convert.h"
#include "text_rows.h"

namespace tigon {
namespace {

constexpr const char* kFooter = R"(Examples:
  tigon inspect DIR --json
  tigon inspect LINEARIZED --text held-out.txt
  tigon inspect TEACHER --adapter run/checkpoints/best --text held-out.txt

DIR is a teacher's, a linearized or an adapter folder. Reads only headers.
With --text the model runs over a few rows: each head's half-life is shown, the tokens until half of
what a token wrote into the recurrent state is left.)";

struct InspectOptions {
  std::string folder, adapter;
  TextOptions text;
  DeviceOptions device;
  bool json = false;
};

std::vector<HeadHalfLives> half_lives(const InspectOptions& options) {
  const at::Device device = choose_device(options.device.device);
  const LoadedModel loaded = load_any_model(
      options.folder, choose_dtype(options.device.dtype, device), device, options.adapter);
  const RowSet rows = open_text_rows(options.text, options.folder, loaded.model.config);
  return measure_half_lives(loaded.model, loaded.stack, rows, options.text.batch_rows);
}

void inspect(const InspectOptions& options) {
  const bool runs = !options.text.files.empty();
  if (!runs && !options.adapter.empty()) {
    throw UsageError("--adapter: only used with --text; `tigon inspect ADAPTER` shows the folder");
  }
  const FolderSummary summary = inspect_folder(options.folder);
  std::vector<HeadHalfLives> heads;
  if (runs) heads = half_lives(options);
  if (options.json) {
    Json all = summary_to_json(summary);
    if (runs) all["half_lives"] = half_lives_to_json(heads);
    return print_json(all);
  }
  print_text(summary_to_text(summary));
  if (runs) print_text(half_lives_to_text(heads));
}

}  // namespace

void add_inspect(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("inspect", "Layers, parameters and memory of a model or adapter folder");
  const auto options = std::make_shared<InspectOptions>();
  command->add_option("folder", options->folder, "model or adapter folder")
      ->required()
      ->type_name("DIR");
  options->text.rows.max_rows = 8;
  add_text_options(*command, options->text);
  command->add_option("--adapter", options->adapter, "adapter folder put on the model, with --text")
      ->type_name("DIR");
  command->add_flag("--json", options->json, "print one JSON object");
  add_device_options(*command, options->device);
  command->footer(kFooter);
  command->callback([options] { inspect(*options); });
}

}  // namespace tigon
