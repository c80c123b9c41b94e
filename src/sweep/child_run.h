// A run in a process of its own.
#pragma once
#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace tigon {

/// How a process ended.
struct ChildExit {
  int code = -1;   // −1 if a signal ended it
  int signal = 0;  // that signal, or 0
};

/// The environment a run on this device gets: on "cuda:N" it sees that GPU alone, counted among
/// those this process sees, so that it takes no memory on others.
std::vector<std::string> environment_for(const std::string& device);

class ChildRun {
 public:
  /// Starts command[0] with its arguments; what it prints is added to `log`. It is in a process
  /// group of its own (Ctrl-C on a terminal reaches only this process, which passes it on) and gets
  /// SIGTERM when this process ends, however it ends. Throws Error if it cannot be started.
  ChildRun(const std::vector<std::string>& command, const std::vector<std::string>& environment,
           const std::filesystem::path& log);
  /// A child that is still running is sent SIGTERM and waited for.
  ~ChildRun();
  ChildRun(const ChildRun&) = delete;
  ChildRun& operator=(const ChildRun&) = delete;

  /// How it ended; nullopt while it runs. Does not wait.
  std::optional<ChildExit> poll();
  void send_signal(int signal) const;

 private:
  pid_t pid_ = -1;
  std::optional<ChildExit> exit_;
};

}  // namespace tigon
