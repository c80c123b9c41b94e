// The program: finds the subcommand, runs it, and turns every failure into one line and an exit
// code.
#include <c10/util/Exception.h>
#include <fmt/ranges.h>
#include <torch/cuda.h>

#include <algorithm>
#include <iostream>
#include <new>
#include <span>

#include "command.h"
#include "core/error.h"
#include "core/interrupt.h"
#include "core/log.h"
#include "version.h"

namespace tigon {
namespace {

constexpr int kFailed = 1;
constexpr int kWrongUsage = 2;

constexpr const char* kFooter = R"(Examples:
  tigon eval --model DIR --text held-out.txt
  tigon convert --model DIR --recipe liger-gla --out CONVERTED
  tigon train configs/train/NAME.yaml train.steps=100
  tigon sweep configs/sweeps/NAME.yaml
  tigon report runs/NAME --html report.html
  tigon generate --model DIR --prompt "Once upon a time"

Planned, not available in this version: serve.
Results go to stdout, logs and progress to stderr.
Exit codes: 0 done, 1 failed, 2 wrong usage or config, 130/143 interrupted after saving.)";

std::string version_text() {
  const auto num_gpus = torch::cuda::device_count();
  return fmt::format("tigon {} (git {})\nLibTorch {}\nCUDA {}\nGPUs visible: {}", kVersion,
                     kGitHash, kTorchVersion, kCudaVersion,
                     num_gpus > 0 ? std::to_string(num_gpus) : "none");
}

/// Commands that are planned: named, so that they are refused as such and not as unknown.
void add_planned_commands(CLI::App& app) {
  for (const std::string name : {"serve"}) {
    CLI::App* command = app.add_subcommand(name)->group("")->allow_extras()->fallthrough(false);
    command->set_help_flag();
    command->callback([name] {
      throw UsageError(fmt::format("'tigon {}' is not available in this version", name));
    });
  }
}

std::string usage_message(const CLI::App* app, const CLI::Error& error) {
  std::string command = "tigon";
  for (const CLI::App* used : app->get_subcommands()) command += " " + used->get_name();
  return fmt::format("error: {}\n`{} --help` lists what there is.\n", error.what(), command);
}

/// CLI11 would call a mistyped command an unexpected argument. `words` are those after the program
/// or the command `app`, whose whole name is `path`.
void check_command_name(const CLI::App& app, const std::string& path,
                        std::span<char* const> words) {
  const auto commands = app.get_subcommands([](const CLI::App*) { return true; });
  if (commands.empty() || words.empty() || words[0][0] == '-') return;
  const std::string name = words[0];
  const auto found = std::ranges::find(commands, name, &CLI::App::get_name);
  if (found != commands.end()) {
    return check_command_name(**found, path + " " + name, words.subspan(1));
  }
  std::vector<std::string> names;
  for (const CLI::App* command : commands) {
    if (!command->get_group().empty()) names.push_back(command->get_name());
  }
  throw UsageError(fmt::format("unknown command '{}'; `{} --help` lists the commands: {}", name,
                               path, fmt::join(names, ", ")));
}

int run(int argc, char** argv) {
  CLI::App app("tigon turns pretrained transformers into models whose memory does not grow.",
               "tigon");
  app.footer(kFooter);
  app.set_version_flag("--version", version_text, "Versions of tigon, LibTorch and CUDA");
  app.require_subcommand(1);
  app.fallthrough();
  app.failure_message(usage_message);
  int verbose = 0, quiet = 0;
  app.add_flag("-v,--verbose", verbose, "Log more");
  app.add_flag("-q,--quiet", quiet, "Only warnings and errors, no progress");
  app.parse_complete_callback([&] { set_up_logging(quiet > 0 ? -1 : verbose > 0 ? 1 : 0); });
  for (auto* add : {add_train, add_convert, add_eval, add_logits, add_generate, add_export,
                    add_tokenize, add_inspect, add_sweep, add_report, add_bench}) {
    add(app);
  }
  add_planned_commands(app);
  try {
    check_command_name(app, "tigon", std::span(argv, static_cast<size_t>(argc)).subspan(1));
    app.parse(argc, argv);
  } catch (const CLI::RuntimeError& exit) {
    return exit.get_exit_code();
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kWrongUsage;
  }
  return 0;
}

int report(const std::string& message, int exit_code) {
  std::cerr << "error: " << message << std::endl;
  return exit_code;
}

int main_with_errors_reported(int argc, char** argv) {
  // A full disk is then an error of the write, with a message.
  ignore_file_size_signal();
  try {
    return run(argc, argv);
  } catch (const UsageError& error) {
    return report(error.what(), kWrongUsage);
  } catch (const c10::Error& error) {
    return report(error.what_without_backtrace(), kFailed);
  } catch (const std::bad_alloc&) {
    return report("out of memory", kFailed);
  } catch (const std::exception& error) {
    return report(error.what(), kFailed);
  }
}

}  // namespace
}  // namespace tigon

int main(int argc, char** argv) {
  return tigon::main_with_errors_reported(argc, argv);
}
