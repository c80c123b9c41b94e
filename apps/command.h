// What the subcommands share: options for device and dtype, results to stdout, exit codes.
#pragma once
#include <CLI/CLI.hpp>
#include <string>
#include <string_view>

#include "io/json_file.h"
#include "model/device.h"  // choose_device, choose_dtype

namespace tigon {

struct DeviceOptions {
  std::string device = "auto";  // for choose_device
  std::string dtype = "auto";   // for choose_dtype
};
void add_device_options(CLI::App& command, DeviceOptions& options);

/// Writes a result to stdout: one JSON object on one line.
void print_json(const Json& result);
/// Writes a result to stdout as it is, flushed; a closed or full stdout throws Error.
void print_text(std::string_view text);

/// Ends the program with 128 + signal (130, 143) after work was saved. Call it from a command's
/// callback.
[[noreturn]] void exit_interrupted(int signal);

// One function a subcommand, in a file of its name: it adds the command and its callback.
void add_train(CLI::App& app);
void add_convert(CLI::App& app);
void add_eval(CLI::App& app);
void add_logits(CLI::App& app);
void add_generate(CLI::App& app);
void add_export(CLI::App& app);
void add_tokenize(CLI::App& app);
void add_inspect(CLI::App& app);
void add_sweep(CLI::App& app);
void add_report(CLI::App& app);
void add_bench(CLI::App& app);

}  // namespace tigon
