#include "core/interrupt.h"

#include <atomic>
#include <csignal>

namespace tigon {

namespace {

std::atomic<int> arrived_signal{0};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may not wait for a lock");

void handle_signal(int signal) {
  if (arrived_signal.exchange(signal) != 0) {
    // The default action follows as soon as this handler returns.
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
}

}  // namespace

void watch_for_interrupts() {
  struct sigaction action {};
  action.sa_handler = handle_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

int pending_interrupt() {
  return arrived_signal.load();
}

void ignore_file_size_signal() {
  struct sigaction action {};
  sigaction(SIGXFSZ, nullptr, &action);
  if (action.sa_handler == SIG_DFL) std::signal(SIGXFSZ, SIG_IGN);
}

}  // namespace tigon
