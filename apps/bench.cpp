// tigon bench: ops and the training step, checked and timed beside their floors.
#include <algorithm>

#include "bench/model_shapes.h"
#include "bench/op_bench.h"
#include "bench/train_bench.h"
#include "command.h"
#include "core/error.h"

namespace tigon {
namespace {

constexpr const char* kFooter = R"(Examples:
  tigon bench ops --record
  tigon bench ops liger_attention rope --shape 8x2048 --heads 32/8 --head-dim 128
  tigon bench ops --list
  tigon bench train --shape 1B --recipe liger-gla --record
  tigon bench train --shape 1B --recipe tigon --teacher
  tigon bench train --shape 8B --rows 4 --memory smallest --json

Inputs and weights are random. A floor is what the same run measured on the device: the rate of a
large copy or of a large matrix product, whichever needs longer for the least work.)";

/// What both benchmarks take. 0 and "" stand for what suits the device.
struct Output {
  DeviceOptions device;
  std::string record_file;
  bool json = false;
};

void add_output_options(CLI::App& command, Output& output) {
  command.add_flag("--json", output.json, "print one JSON object");
  command
      .add_option("--record", output.record_file,
                  "append the result to a markdown file (default docs/performance.md)")
      ->expected(0, 1)
      ->default_str("docs/performance.md")
      ->type_name("FILE");
  add_device_options(command, output.device);
}

void print_and_record(const BenchReport& report, const at::Device& device, const Output& output) {
  output.json ? print_json(report.json) : print_text(report.text);
  if (!output.record_file.empty()) record(report, device, output.record_file);
}

struct OpsArguments {
  Output output;
  std::vector<std::string> names;
  std::string shape, heads;
  int64_t head_dim = 64, repeats = 0;
  bool lists = false;
};

void bench_ops_command(const OpsArguments& arguments) {
  OpBenchOptions options;
  options.names = arguments.names;
  options.device = choose_device(arguments.output.device.device);
  options.dtype = choose_dtype(arguments.output.device.dtype, options.device);
  const bool is_gpu = !options.device.is_cpu();
  const auto given = [&](const std::string& text, const char* on_gpu, const char* on_cpu) {
    return !text.empty() ? text : std::string(is_gpu ? on_gpu : on_cpu);
  };
  options.sizes = read_op_sizes(given(arguments.shape, "16x1024", "2x128"),
                                given(arguments.heads, "32/8", "4/2"), arguments.head_dim);
  options.sizes.vocabulary = is_gpu ? 128256 : 1024;
  options.repeats = arguments.repeats > 0 ? arguments.repeats : is_gpu ? 30 : 5;
  print_and_record(
      arguments.lists ? list_implementations(options) : report_ops(options, bench_ops(options)),
      options.device, arguments.output);
}

void add_ops(CLI::App& bench) {
  CLI::App* command = bench.add_subcommand("ops", "Each op against float64, then beside its floor");
  const auto arguments = std::make_shared<OpsArguments>();
  command->add_option("names", arguments->names, "ops; all if none is given")->type_name("NAME");
  command->add_flag("--list", arguments->lists, "only say which implementation serves each op");
  command->add_option("--shape", arguments->shape, "segments and tokens (16x1024; CPU 2x128)")
      ->type_name("ROWSxTOKENS");
  command->add_option("--heads", arguments->heads, "query and KV heads (32/8; CPU 4/2)")
      ->type_name("H/KV");
  command->add_option("--head-dim", arguments->head_dim, "head size")
      ->capture_default_str()
      ->check(CLI::Range(2, 1024));
  command->add_option("--repeats", arguments->repeats, "timed calls (30; CPU 5)")
      ->check(CLI::PositiveNumber);
  add_output_options(*command, arguments->output);
  command->footer(kFooter);
  command->callback([arguments] { bench_ops_command(*arguments); });
}

struct TrainArguments {
  Output output;
  TrainBenchOptions options{.shape = "", .rows = 0, .seq_len = 0};
};

void bench_train_command(const TrainArguments& arguments) {
  TrainBenchOptions options = arguments.options;
  options.device = choose_device(arguments.output.device.device);
  options.dtype = choose_dtype(arguments.output.device.dtype, options.device);
  const bool is_gpu = !options.device.is_cpu();
  if (options.shape.empty()) options.shape = is_gpu ? "1B" : "tiny";
  if (options.rows == 0) options.rows = is_gpu ? 8 : 2;
  if (options.seq_len == 0) options.seq_len = is_gpu ? 1024 : 128;
  print_and_record(report_train(options, bench_train(options)), options.device, arguments.output);
}

void add_train_bench(CLI::App& bench) {
  CLI::App* command = bench.add_subcommand("train", "The training step beside its matrix products");
  const auto arguments = std::make_shared<TrainArguments>();
  TrainBenchOptions& options = arguments->options;
  command->add_option("--shape", options.shape, "sizes of a model (1B; CPU tiny)")
      ->check(CLI::IsMember(model_shape_names()));
  command->add_option("--recipe", options.recipe, "recipe or YAML file")->capture_default_str();
  command->add_option("--rows", options.rows, "rows a step (8; CPU 2)")->check(CLI::PositiveNumber);
  command->add_option("--seq-len", options.seq_len, "tokens a row (1024; CPU 128)")
      ->check(CLI::Range(2, 1 << 24));
  command->add_option("--steps", options.steps, "timed steps")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--trainable", options.trainable, "what is trained")
      ->capture_default_str()
      ->check(CLI::IsMember({"lora", "all"}));
  command->add_option("--lora-rank", options.lora_rank, "rank of the adapters on q, k and v")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_flag("--teacher", options.has_teacher,
                    "half of the loss is that to a teacher, run forward in every step");
  command->add_option("--memory", options.memory, "what is kept for backward, as train.memory")
      ->capture_default_str()
      ->check(CLI::IsMember({"speed", "balanced", "smallest"}));
  add_output_options(*command, arguments->output);
  command->footer(kFooter);
  command->callback([arguments] { bench_train_command(*arguments); });
}

}  // namespace

void add_bench(CLI::App& app) {
  CLI::App* bench = app.add_subcommand("bench", "Time ops or training steps beside their floors");
  bench->require_subcommand(1);
  bench->footer(kFooter);
  add_ops(*bench);
  add_train_bench(*bench);
}

}  // namespace tigon
