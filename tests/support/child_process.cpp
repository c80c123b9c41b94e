#include "support/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <iterator>

namespace tigon::testing {
namespace {

/// Between fork and exec only calls that are safe in a signal handler are allowed.
[[noreturn]] void become(char* const* arguments, const char* output, const char* error,
                         const ChildLimits& limits) {
  constexpr int kCannotStart = 127;
  const int flags = O_WRONLY | O_CREAT | O_TRUNC;
  if (dup2(open(output, flags, 0600), STDOUT_FILENO) < 0) _exit(kCannotStart);
  if (dup2(open(error, flags, 0600), STDERR_FILENO) < 0) _exit(kCannotStart);
  if (limits.max_file_bytes > 0) {
    const rlimit limit{static_cast<rlim_t>(limits.max_file_bytes),
                       static_cast<rlim_t>(limits.max_file_bytes)};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(kCannotStart);
  }
  execvp(arguments[0], arguments);
  _exit(kCannotStart);
}

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

ChildProcess::ChildProcess(const std::vector<std::string>& command, const ChildLimits& limits) {
  std::vector<char*> arguments;
  for (const std::string& argument : command) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  const std::string output = folder_ / "stdout", error = folder_ / "stderr";
  pid_ = fork();
  if (pid_ == 0) become(arguments.data(), output.c_str(), error.c_str(), limits);
  if (pid_ < 0) throw std::runtime_error("cannot fork");
}

ChildProcess::~ChildProcess() {
  if (has_ended()) return;
  send_signal(SIGKILL);
  waitpid(pid_, &status_, 0);
}

void ChildProcess::send_signal(int signal) const {
  if (!has_ended_) kill(pid_, signal);
}

bool ChildProcess::has_ended() {
  if (!has_ended_) has_ended_ = waitpid(pid_, &status_, WNOHANG) == pid_;
  return has_ended_;
}

ChildResult ChildProcess::wait() {
  while (!has_ended_) {
    has_ended_ = waitpid(pid_, &status_, 0) == pid_;
    if (!has_ended_ && errno != EINTR) throw std::runtime_error("cannot wait for a child");
  }
  ChildResult result;
  if (WIFEXITED(status_)) result.exit_code = WEXITSTATUS(status_);
  if (WIFSIGNALED(status_)) result.signal = WTERMSIG(status_);
  result.standard_output = read(folder_ / "stdout");
  result.standard_error = read(folder_ / "stderr");
  return result;
}

ChildResult run_program(const std::vector<std::string>& command, const ChildLimits& limits) {
  return ChildProcess(command, limits).wait();
}

}  // namespace tigon::testing
