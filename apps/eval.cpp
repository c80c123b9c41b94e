// tigon eval: held-out loss of a model, and beside its teacher what linearizing cost and recovered.
#include <optional>

#include "command.h"
#include "core/error.h"
#include "core/log.h"
#include "eval/comparison.h"
#include "eval/decode_loss.h"
#include "eval/position_loss.h"
#include "needle_command.h"
#include "text_rows.h"

namespace tigon {
namespace {

constexpr const char* kFooter = R"(Examples:
  tigon eval --model DIR --text held-out.txt.xz --rows 512
  tigon eval --model LINEARIZED --teacher DIR --text held-out.txt.xz --rows 512 --json
  tigon eval --model DIR --adapter run/checkpoints/best --teacher DIR --text held-out.txt
  tigon eval --model LINEARIZED --text held-out.txt --rows 64 --decode --batch-rows 64
  tigon eval --model LINEARIZED --teacher DIR --text held-out.txt --seq-len 2048 --positions 8
  tigon eval --model LINEARIZED --teacher DIR --text prose.txt --needle --needle-page needle.html

With --teacher: recovered = (L_window - L) / (L_window - L_teacher), where L_window is the loss of
the teacher with a window of 64 keys in every layer, untrained; over_own_window says the same
against the untrained windows of the model itself.
With --decode: beside the loss of whole rows ("trained") the one of the model as it is served,
token by token from its state ("decoded"), --batch-rows rows side by side; takes longer.
With --positions N: a second table, of N parts of a row: a gap to the teacher that grows along the
row is memory that does not hold.)";

struct EvalOptions {
  std::string model, adapter, teacher, tasks;
  TextOptions text;
  NeedleArguments needle;
  DeviceOptions device;
  int64_t position_parts = 0;
  bool decode = false;
  bool json = false;
};

Json loss_to_json(const LossResult& result) {
  return {{"tokens", result.tokens},
          {"nats_per_token", result.nats_per_token},
          {"perplexity", result.perplexity}};
}

std::string loss_to_text(const LossResult& result, const char* how) {
  return fmt::format("{} predictions, {:.4f} nats a token, perplexity {:.3f}{}\n", result.tokens,
                     result.nats_per_token, result.perplexity, how);
}

/// Whether the model's own weights, without its adapter, are the teacher's.
bool is_teacher_with_adapter(const EvalOptions& options) {
  std::error_code ignored;
  return !options.adapter.empty() &&
         std::filesystem::equivalent(options.model, options.teacher, ignored);
}

/// The student's own model where its adapter alone makes it a student; none without --teacher.
std::optional<Model> load_teacher(const EvalOptions& options, const LoadedModel& student) {
  if (options.teacher.empty()) return std::nullopt;
  if (is_teacher_with_adapter(options)) return student.model;
  LoadedModel teacher =
      load_any_model(options.teacher, student.model.compute_dtype, student.model.device);
  if (!teacher.plan.is_teacher()) {
    fail("{}: expected a teacher, found a linearized model ({})", options.teacher,
         teacher.plan.recipe);
  }
  return std::move(teacher.model);
}

/// The table of --positions: its text, or added to the JSON.
void evaluate_positions(const EvalOptions& options, const LoadedModel& student,
                        const Model* teacher, const RowSet& rows, std::string& text, Json& json) {
  if (options.position_parts == 0) return;
  const auto losses = [&](const Model& model, const MixerStack& stack, bool use_adapters,
                          const char* title) {
    return loss_by_position(model, stack, rows, options.text.batch_rows, use_adapters,
                            options.position_parts, title);
  };
  const std::vector<PositionLoss> own =
      losses(student.model, student.stack, /*use_adapters=*/true, "model");
  std::optional<std::vector<PositionLoss>> expected;
  if (teacher != nullptr) {
    expected =
        losses(*teacher, make_teacher_stack(teacher->config), /*use_adapters=*/false, "teacher");
  }
  text += "\n" + positions_to_text(own, expected);
  json["positions"] = positions_to_json(own, expected);
}

void evaluate_beside_teacher(const EvalOptions& options, const LoadedModel& student,
                             const Model& teacher, const RowSet& rows) {
  Comparison comparison = compare(student, teacher, rows, options.text.batch_rows);
  if (options.decode) add_decoded_row(comparison, student, rows, options.text.batch_rows);
  std::string text = comparison_to_text(comparison);
  const Json table = comparison_to_json(comparison);
  const Json& trained = table.at("trained");
  Json json = {{"tokens", trained.at("tokens")},
               {"nats_per_token", trained.at("nats_per_token")},
               {"perplexity", trained.at("perplexity")},
               {"recovered", trained.at("recovered")},
               {"over_own_window", trained.at("over_own_window")},
               {"comparison", table}};
  if (options.decode) json["decoded"] = table.at("decoded");
  evaluate_positions(options, student, &teacher, rows, text, json);
  options.json ? print_json(json) : print_text(text);
}

void evaluate(const EvalOptions& options) {
  if (!options.tasks.empty()) throw UsageError("--tasks is not available in this version");
  const at::Device device = choose_device(options.device.device);
  const LoadedModel student = load_any_model(
      options.model, choose_dtype(options.device.dtype, device), device, options.adapter);
  const std::optional<Model> teacher = load_teacher(options, student);
  if (options.needle.is_asked) {
    if (options.decode || options.position_parts > 0) {
      throw UsageError("--decode and --positions: not available with --needle");
    }
    return run_needle(options.needle, options.text, student, teacher ? &*teacher : nullptr,
                      options.model, options.json);
  }
  const RowSet rows = open_text_rows(options.text, options.model, student.model.config);
  const int64_t known_positions = student.model.config.max_position_embeddings;
  if (student.plan.is_teacher() && options.text.rows.seq_len > known_positions) {
    log_warning("eval", "rows of {} tokens are longer than the {} positions the model knows",
                options.text.rows.seq_len, known_positions);
  }
  if (teacher) return evaluate_beside_teacher(options, student, *teacher, rows);
  const LossResult result =
      evaluate_loss(student.model, student.stack, rows, options.text.batch_rows,
                    /*use_adapters=*/true, student.plan.is_teacher() ? "teacher" : "student");
  Json json = loss_to_json(result);
  std::string text = loss_to_text(result, "");
  if (options.decode) {
    const LossResult decoded =
        evaluate_decode_loss(student.model, student.stack, rows, options.text.batch_rows,
                             /*use_adapters=*/true, "decoded");
    json["decoded"] = loss_to_json(decoded);
    text += loss_to_text(decoded, ", token by token");
  }
  evaluate_positions(options, student, nullptr, rows, text, json);
  options.json ? print_json(json) : print_text(text);
}

}  // namespace

void add_eval(CLI::App& app) {
  CLI::App* command = app.add_subcommand("eval", "Held-out loss, alone or beside the teacher");
  const auto options = std::make_shared<EvalOptions>();
  command->add_option("--model", options->model, "model folder, teacher or linearized")
      ->required()
      ->type_name("DIR");
  command->add_option("--adapter", options->adapter, "adapter folder put on the model")
      ->type_name("DIR");
  command->add_option("--teacher", options->teacher, "the teacher: adds the baselines")
      ->type_name("DIR");
  add_text_options(*command, options->text)->required();
  command->add_option("--tasks", options->tasks, "benchmarks; not available in this version")
      ->type_name("A,B");
  command->add_flag("--decode", options->decode,
                    "also the loss token by token, as the model is served");
  command
      ->add_option("--positions", options->position_parts,
                   "also the loss by position, in this many equal parts of a row")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  command->add_flag("--json", options->json, "print one JSON object");
  add_needle_options(*command, options->needle);
  add_device_options(*command, options->device);
  command->footer(kFooter);
  command->callback([options] { evaluate(*options); });
}

}  // namespace tigon
