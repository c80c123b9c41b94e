// tigon export: the result of a training run as a Hugging Face folder, or as an adapter folder.
#include "command.h"
#include "core/error.h"
#include "export/hf_folder.h"
#include "train/config.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFooter = R"(Examples:
  tigon export --run runs/NAME --out MERGED
  tigon export --run runs/NAME --out ADAPTER --adapter-only

Takes the best checkpoint, or the last one where none was validated. Paths in the run's config.yaml
are relative to the working directory of the run.)";

struct ExportCommandOptions {
  std::string run, out;
  bool adapter_only = false;
  DeviceOptions device;
};

fs::path result_checkpoint(const fs::path& run) {
  for (const char* name : {"best", "last"}) {
    const fs::path path = run / "checkpoints" / name;
    if (fs::is_directory(path)) return path;
  }
  fail("{}: expected checkpoints/best or checkpoints/last, found neither", run.string());
}

Json run_results(const fs::path& run) {
  const fs::path path = run / "run.json";
  if (!fs::exists(path)) return {};
  const Json json = read_json_file(path);
  return json.contains("results") ? json["results"] : Json();
}

bool is_adapter_folder(const fs::path& folder) {
  return fs::exists(folder / "adapter_config.json");
}

/// The model a run has trained: a base with its adapter, or weights that were all trained.
LoadedModel load_trained(const RunConfig& config, const fs::path& checkpoint, at::ScalarType dtype,
                         at::Device device) {
  if (is_adapter_folder(checkpoint)) {
    return load_any_model(config.model_path, dtype, device, checkpoint);
  }
  LoadedModel loaded = load_any_model(checkpoint, dtype, device);
  // What it was made from: decides the element type that is written.
  loaded.folder = config.model_path;
  return loaded;
}

void run_export(const ExportCommandOptions& options) {
  const fs::path run = options.run;
  if (!fs::exists(run / "config.yaml")) {
    fail("{}: expected a run folder with config.yaml, found none", options.run);
  }
  const RunConfig config = read_run_config(run / "config.yaml", {});
  const fs::path checkpoint = result_checkpoint(run);
  if (options.adapter_only && !is_adapter_folder(checkpoint)) {
    fail(
        "{}: expected a run that trained an adapter, found one that trained all weights: export it "
        "without --adapter-only",
        options.run);
  }
  const at::Device device = choose_device(options.device.device);
  // Merging wants the base as it is: float32 holds every element type that checkpoints have.
  const at::ScalarType dtype =
      options.device.dtype == "auto" ? at::kFloat : choose_dtype(options.device.dtype, device);
  const LoadedModel loaded = load_trained(config, checkpoint, dtype, device);
  ExportOptions export_options{
      .base_folder = config.is_random() ? config.tokenizer_path : config.model_path,
      .dtype = config.export_dtype,
      .results = run_results(run)};
  if (options.adapter_only) {
    export_adapter(loaded, config.lora, options.out, export_options);
  } else {
    const ConversionReport report = make_report(loaded.plan, loaded.stack, loaded.model);
    export_merged(loaded, {loaded.stack, report}, options.out, export_options);
  }
  print_text(fmt::format("wrote {} from {}\n", options.out, checkpoint.string()));
}

}  // namespace

void add_export(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("export", "A run's result as a merged model folder or adapter folder");
  const auto options = std::make_shared<ExportCommandOptions>();
  command->add_option("--run", options->run, "the run's folder")->required()->type_name("DIR");
  command->add_option("--out", options->out, "folder to write; must not exist or be empty")
      ->required()
      ->type_name("DIR");
  command->add_flag("--adapter-only", options->adapter_only,
                    "the adapter alone, as peft reads it, instead of merged weights");
  add_device_options(*command, options->device);
  command->footer(kFooter);
  command->callback([options] { run_export(*options); });
}

}  // namespace tigon
