#include "core/interrupt.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>

#include "support/catch.h"

using namespace tigon;

namespace {

/// Runs in a child process, so that signals cannot reach the test program; gives waitpid's status.
int status_of_child(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  return status;
}

}  // namespace

TEST_CASE("interrupt: the first signal is only noted") {
  for (const int signal : {SIGINT, SIGTERM}) {
    const int status = status_of_child([signal] {
      watch_for_interrupts();
      if (pending_interrupt() != 0) return 1;
      std::raise(signal);
      return pending_interrupt() == signal ? 0 : 2;
    });
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
  }
}

TEST_CASE("interrupt: a second signal ends the process") {
  const int status = status_of_child([] {
    watch_for_interrupts();
    std::raise(SIGINT);
    std::raise(SIGTERM);
    return 0;
  });
  REQUIRE(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGTERM);
}

TEST_CASE("interrupt: the file size signal is ignored, unless it has a handler") {
  CHECK(WIFEXITED(status_of_child([] {
    std::signal(SIGXFSZ, SIG_DFL);
    ignore_file_size_signal();
    std::raise(SIGXFSZ);
    return 0;
  })));
  const int status = status_of_child([] {
    std::signal(SIGXFSZ, [](int) { _exit(7); });
    ignore_file_size_signal();
    std::raise(SIGXFSZ);
    return 0;
  });
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 7);
}
