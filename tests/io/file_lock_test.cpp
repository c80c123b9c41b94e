#include "io/file_lock.h"

#include <sys/wait.h>
#include <unistd.h>

#include <memory>

#include "support/catch.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"

using namespace tigon;
using namespace tigon::testing;
namespace fs = std::filesystem;

TEST_CASE("file lock: one holder at a time") {
  const TemporaryFolder folder;
  auto first = std::make_unique<FileLock>(folder / "lock");
  FileLock second(folder / "lock");
  first->lock();
  CHECK_FALSE(second.try_lock());
  first.reset();
  CHECK(second.try_lock());
  second.remove();
  CHECK_FALSE(fs::exists(folder / "lock"));
  check_refused([&] { FileLock(folder / "no/lock"); }, "no/lock: cannot open for locking");
}

TEST_CASE("file lock: shared with children, it is held until the last of them ends") {
  const TemporaryFolder folder;
  auto first = std::make_unique<FileLock>(folder / "lock");
  first->lock();
  first->share_with_children();
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    // Another program, as it stands between fork and exec: it reads until the pipe is closed.
    close(ends[1]);
    dup2(ends[0], STDIN_FILENO);
    execl("/bin/cat", "cat", static_cast<char*>(nullptr));
    _exit(1);
  }
  close(ends[0]);
  first.reset();
  FileLock second(folder / "lock");
  CHECK_FALSE(second.try_lock());
  close(ends[1]);
  REQUIRE(waitpid(child, nullptr, 0) == child);
  CHECK(second.try_lock());
}
