// tigon convert: a teacher's folder to a linearized one, without training.
#include "command.h"
#include "core/error.h"
#include "core/table.h"
#include "eval/perplexity.h"
#include "export/hf_folder.h"
#include "model/tensor_io.h"
#include "text_rows.h"

namespace tigon {
namespace {

constexpr const char* kFooter = R"(Examples:
  tigon convert --model DIR --recipe liger-gla --out CONVERTED
  tigon convert --model DIR --recipe liger-gla --out CONVERTED hybrid.every=8 window_keys=128
  tigon convert --model DIR --recipe window --out CONVERTED --text held-out.txt --rows 64

A conversion alone copies weights and swaps mixers. The model it writes is worse than its teacher:
quality needs training (tigon train).)";

constexpr const char* kNotTrained =
    "The converted model is untrained: quality needs training (tigon train).\n";

struct ConvertOptions {
  std::string model, recipe, out;
  std::vector<std::string> overrides;
  TextOptions text;
  DeviceOptions device;
  bool json = false;
};

/// A conversion keeps every bit of the weights and takes no more memory than they do: they stay in
/// the element type of the files unless another one is asked for. A CPU computes in float32 all the
/// same.
LoadedModel load_teacher(const ConvertOptions& options, const at::Device& device) {
  const at::ScalarType compute = choose_dtype(options.device.dtype, device);
  if (options.device.dtype != "auto") return load_any_model(options.model, compute, device);
  const DType held = Checkpoint(options.model).at("model.embed_tokens.weight").dtype;
  LoadedModel loaded = load_any_model(options.model, to_scalar_type(held), device);
  if (device.is_cpu()) loaded.model.compute_dtype = compute;
  return loaded;
}

Json loss_to_json(const LossResult& loss) {
  return {{"nats_per_token", loss.nats_per_token},
          {"perplexity", loss.perplexity},
          {"tokens", loss.tokens}};
}

/// Loss of the teacher and of the converted model on the text.
Json measure(const ConvertOptions& options, const LoadedModel& loaded) {
  const RowSet rows = open_text_rows(options.text, options.model, loaded.model.config);
  const auto loss = [&](const MixerStack& stack, const std::string& title) {
    return loss_to_json(evaluate_loss(loaded.model, stack, rows, options.text.batch_rows,
                                      /*use_adapters=*/false, title));
  };
  return {{"teacher", loss(make_teacher_stack(loaded.model.config), "before")},
          {"converted", loss(loaded.stack, "after")}};
}

std::string losses_to_text(const Json& losses) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& [name, loss] : losses.items()) {
    rows.push_back({name, fmt::format("{:.4f}", loss["nats_per_token"].get<double>()),
                    fmt::format("{:.3f}", loss["perplexity"].get<double>())});
  }
  return format_table({"", "nats/token", "perplexity"}, rows);
}

void run_convert(const ConvertOptions& options) {
  // What can be refused from small files is, before weights are read.
  const Plan plan = load_plan(options.recipe, options.overrides);
  require_model_folder(options.model);
  const ModelConfig config = read_model_config(options.model);
  if (!config.linearize.is_null()) {
    fail("{}: expected a teacher, found a model that is linearized already", options.model);
  }
  build_stack(plan, config);
  const at::Device device = choose_device(options.device.device);
  LoadedModel loaded = load_teacher(options, device);
  const Checkpoint checkpoint(options.model);
  const Conversion conversion = convert(plan, loaded.model, &checkpoint);
  loaded.plan = plan;
  loaded.stack = conversion.stack;
  ExportOptions export_options{.base_folder = options.model};
  if (!options.text.files.empty()) export_options.results = measure(options, loaded);
  export_merged(loaded, conversion, options.out, export_options);
  if (options.json) {
    Json result = report_to_json(conversion.report);
    result["out"] = options.out;
    if (export_options.results.is_object()) result["loss"] = export_options.results;
    return print_json(result);
  }
  std::string text = report_to_text(conversion.report);
  if (export_options.results.is_object()) text += losses_to_text(export_options.results);
  if (!plan.is_teacher()) text += kNotTrained;
  print_text(text + fmt::format("wrote {}\n", options.out));
}

}  // namespace

void add_convert(CLI::App& app) {
  CLI::App* command = app.add_subcommand("convert", "Swap a teacher's mixers, without training");
  const auto options = std::make_shared<ConvertOptions>();
  command->add_option("--model", options->model, "the teacher's folder")
      ->required()
      ->type_name("DIR");
  command->add_option("--recipe", options->recipe, "a recipe's name, or a YAML file with a plan")
      ->required()
      ->type_name("NAME-or-YAML");
  command->add_option("--out", options->out, "folder to write; must not exist or be empty")
      ->required()
      ->type_name("DIR");
  command->add_option("overrides", options->overrides, "keys of the recipe, e.g. window_keys=65")
      ->type_name("key=value");
  add_text_options(*command, options->text);
  command->add_flag("--json", options->json, "print one JSON object");
  add_device_options(*command, options->device);
  command->footer(kFooter);
  command->callback([options] { run_convert(*options); });
}

}  // namespace tigon
