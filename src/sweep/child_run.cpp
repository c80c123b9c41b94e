#include "sweep/child_run.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "core/error.h"

extern char** environ;

namespace tigon {
namespace {

constexpr const char* kVisibleGpus = "CUDA_VISIBLE_DEVICES";

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (const std::string& text : texts) result.push_back(const_cast<char*>(text.c_str()));
  result.push_back(nullptr);
  return result;
}

/// What CUDA_VISIBLE_DEVICES calls GPU N of those this process sees.
std::string gpu_id(const std::string& number) {
  const char* visible = std::getenv(kVisibleGpus);
  if (visible == nullptr || *visible == '\0') return number;
  std::istringstream list(visible);
  std::string id;
  for (int64_t i = 0; i <= std::stoll(number); ++i) {
    if (!std::getline(list, id, ',')) return number;
  }
  return id;
}

/// Holds back all signals of this thread for the time of a scope.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

  const sigset_t& before() const { return before_; }

 private:
  sigset_t before_{};
};

/// Between fork and exec only calls that are safe in a signal handler are allowed.
[[noreturn]] void become(char* const* arguments, char* const* environment, int log, pid_t parent,
                         const sigset_t& signals) {
  constexpr int kCannotStart = 127;
  // This process's handlers would swallow a signal that comes before exec.
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
  sigprocmask(SIG_SETMASK, &signals, nullptr);
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(kCannotStart);  // it ended before the line above
  const int none = open("/dev/null", O_RDONLY);
  if (none < 0 || dup2(none, STDIN_FILENO) < 0) _exit(kCannotStart);
  if (dup2(log, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0) _exit(kCannotStart);
  execve(arguments[0], arguments, environment);
  _exit(kCannotStart);
}

}  // namespace

std::vector<std::string> environment_for(const std::string& device) {
  std::vector<std::string> environment;
  const bool is_gpu = device.starts_with("cuda:");
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (!is_gpu || !text.starts_with(std::string(kVisibleGpus) + "=")) environment.push_back(text);
  }
  if (is_gpu) environment.push_back(fmt::format("{}={}", kVisibleGpus, gpu_id(device.substr(5))));
  return environment;
}

ChildRun::ChildRun(const std::vector<std::string>& command,
                   const std::vector<std::string>& environment, const std::filesystem::path& log) {
  constexpr mode_t kMode = 0644;
  const int descriptor = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, kMode);
  if (descriptor < 0) fail("{}: cannot open: {}", log.string(), std::strerror(errno));
  const std::string line = fmt::format("$ {}\n", fmt::join(command, " "));
  const bool is_written =
      write(descriptor, line.data(), line.size()) == static_cast<ssize_t>(line.size());
  const std::vector<char*> arguments = pointers(command), variables = pointers(environment);
  const pid_t parent = getpid();
  int error = errno;
  if (is_written) {
    const BlockedSignals blocked;
    pid_ = fork();
    error = errno;
    if (pid_ == 0) {
      become(arguments.data(), variables.data(), descriptor, parent, blocked.before());
    }
  }
  close(descriptor);
  if (pid_ < 0) fail("{}: cannot start a run: {}", log.string(), std::strerror(error));
}

ChildRun::~ChildRun() {
  if (poll()) return;
  send_signal(SIGTERM);
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) continue;
}

std::optional<ChildExit> ChildRun::poll() {
  int status = 0;
  if (exit_ || waitpid(pid_, &status, WNOHANG) != pid_) return exit_;
  exit_.emplace();
  if (WIFEXITED(status)) exit_->code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) exit_->signal = WTERMSIG(status);
  return exit_;
}

void ChildRun::send_signal(int signal) const {
  if (!exit_) kill(pid_, signal);
}

}  // namespace tigon
