#include "command.h"

#include <cstdio>

#include "core/error.h"

namespace tigon {

void add_device_options(CLI::App& command, DeviceOptions& options) {
  command
      .add_option("--device", options.device,
                  "cpu, cuda or cuda:N; auto takes the GPU if there is one")
      ->capture_default_str()
      ->type_name("NAME");
  command
      .add_option("--dtype", options.dtype,
                  "what to compute in; auto is bfloat16 on a GPU, float32 on the CPU")
      ->capture_default_str()
      ->type_name("NAME")
      ->check(CLI::IsMember({"auto", "float32", "bfloat16"}));
}

void print_text(std::string_view text) {
  const bool is_written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (!is_written || std::fflush(stdout) != 0) fail("stdout: cannot write the result");
}

void print_json(const Json& result) {
  print_text(result.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

void exit_interrupted(int signal) {
  throw CLI::RuntimeError("interrupted", 128 + signal);
}

}  // namespace tigon
