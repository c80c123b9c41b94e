// Log lines and progress lines, as they arrive in a file and on a terminal.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <cstdio>
#include <stdexcept>
#include <string>
#include <thread>

#include "core/log.h"
#include "core/progress.h"
#include "support/catch.h"

using namespace tigon;

namespace {

/// Sends stderr to a descriptor for the time of a scope.
class RedirectedStderr {
 public:
  explicit RedirectedStderr(int target) {
    std::fflush(stderr);
    before_ = dup(STDERR_FILENO);
    dup2(target, STDERR_FILENO);
  }
  ~RedirectedStderr() {
    std::fflush(stderr);
    dup2(before_, STDERR_FILENO);
    close(before_);
  }

 private:
  int before_;
};

std::string read_available(int descriptor) {
  std::string text(4096, '\0');
  const ssize_t bytes = read(descriptor, text.data(), text.size());
  text.resize(bytes > 0 ? static_cast<size_t>(bytes) : 0);
  return text;
}

/// What `body` writes to a stderr that is no terminal.
template <class Body>
std::string written_to_file(const Body& body) {
  std::FILE* const file = std::tmpfile();
  REQUIRE(file != nullptr);
  {
    const RedirectedStderr redirected(fileno(file));
    body();
  }
  lseek(fileno(file), 0, SEEK_SET);
  const std::string text = read_available(fileno(file));
  std::fclose(file);
  return text;
}

/// What `body` writes to a stderr that is a terminal of so many columns.
template <class Body>
std::string written_to_terminal(unsigned short columns, const Body& body) {
  const int controller = posix_openpt(O_RDWR | O_NOCTTY);
  REQUIRE(controller >= 0);
  REQUIRE(grantpt(controller) == 0);
  REQUIRE(unlockpt(controller) == 0);
  const int terminal = open(ptsname(controller), O_RDWR | O_NOCTTY);
  REQUIRE(terminal >= 0);
  winsize size{};
  size.ws_col = columns;
  size.ws_row = 24;
  ioctl(terminal, TIOCSWINSZ, &size);
  {
    const RedirectedStderr redirected(terminal);
    body();
  }
  const std::string text = read_available(controller);
  close(terminal);
  close(controller);
  return text;
}

}  // namespace

TEST_CASE("log: lines carry area and level, and verbosity −1 keeps only warnings") {
  const auto write_both = [](int verbosity) {
    return written_to_file([&] {
      set_up_logging(verbosity);
      log_info("data", "{} shards", 12);
      log_warning("train", "slow");
    });
  };
  const std::string normal = write_both(0);
  CHECK(normal.find("info [data] 12 shards\n") != std::string::npos);
  CHECK(normal.find("warning [train] slow\n") != std::string::npos);
  const std::string quiet = write_both(-1);
  set_up_logging(0);  // for what runs after this in the same process
  CHECK(quiet.find("[data]") == std::string::npos);
  CHECK(quiet.find("warning [train] slow\n") != std::string::npos);
}

TEST_CASE("progress: a file gets no bar and only the last line of quick work") {
  const std::string text = written_to_file([] {
    Progress progress("reading", 4, "rows");
    for (int row = 1; row <= 4; ++row) progress.update(row, "note " + std::to_string(row));
  });
  INFO(text);
  CHECK(text.starts_with("reading  100%  4/4 rows  "));
  CHECK(text.find("note 4\n") != std::string::npos);
  CHECK(text.find("note 3") == std::string::npos);
}

TEST_CASE("progress: a terminal gets a bar that rewrites itself within its width") {
  const std::string text = written_to_terminal(41, [] {
    Progress progress("reading", 4, "rows");
    std::this_thread::sleep_for(std::chrono::milliseconds(110));
    progress.update(2);
    progress.update(3);  // too soon after the last drawing
    progress.finish();
    progress.finish();
  });
  CHECK(text.find("\rreading  [############------------]  50%") != std::string::npos);
  CHECK(text.find("75%") == text.rfind("75%"));
  size_t start = 0;
  for (size_t end = text.find("\x1b[K"); end != std::string::npos;
       end = text.find("\x1b[K", start)) {
    CHECK(display_width(text.substr(start, end - start)) <= 41);
    start = end + 3;
  }
  CHECK(text.substr(start) == "\r\n");
}
