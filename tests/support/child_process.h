// Another program, run and watched from a test.
#pragma once
#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "support/temporary_folder.h"

namespace tigon::testing {

/// How a child ended.
struct ChildResult {
  int exit_code = -1;  // −1 if a signal ended it
  int signal = 0;      // that signal, or 0
  std::string standard_output, standard_error;
};

struct ChildLimits {
  int64_t max_file_bytes = 0;  // RLIMIT_FSIZE; 0: none
};

class ChildProcess {
 public:
  /// Starts command[0] with its arguments; both output streams are kept. A child that is still
  /// running when the object goes is killed.
  explicit ChildProcess(const std::vector<std::string>& command, const ChildLimits& limits = {});
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  void send_signal(int signal) const;
  /// Whether it has ended; does not wait.
  bool has_ended();
  ChildResult wait();

 private:
  TemporaryFolder folder_;  // holds the output streams
  pid_t pid_ = -1;
  bool has_ended_ = false;
  int status_ = 0;
};

/// Starts and waits.
ChildResult run_program(const std::vector<std::string>& command, const ChildLimits& limits = {});

}  // namespace tigon::testing
