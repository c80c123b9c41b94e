#include "io/atomic_file.h"

#include <string>
#include <vector>

#include "core/error.h"
#include "io/json_file.h"
#include "support/catch.h"
#include "support/file_size_limit.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

using Names = std::vector<std::string>;
namespace fs = std::filesystem;

}  // namespace

TEST_CASE("atomic file: appears at commit, under its name alone") {
  const TemporaryFolder folder;
  {
    AtomicFile file(folder / "x");
    file.write("ab");
    file.write(std::as_bytes(std::span("cd", 2)));
    CHECK_FALSE(fs::exists(folder / "x"));
    file.commit();
  }
  CHECK(read_text_file(folder / "x") == "abcd");
  CHECK(folder.names() == Names{"x"});
}

TEST_CASE("atomic file: replaces at commit; without it, the old content stays") {
  const TemporaryFolder folder;
  folder.write("x", "old");
  {
    AtomicFile file(folder / "x");
    file.write("half");
  }
  CHECK(read_text_file(folder / "x") == "old");
  CHECK(folder.names() == Names{"x"});
  write_file_atomically(folder / "x", "new");
  CHECK(read_text_file(folder / "x") == "new");
}

TEST_CASE("atomic file: two writers of one name do not meet") {
  const TemporaryFolder folder;
  AtomicFile first(folder / "x"), second(folder / "x");
  first.write("first");
  second.write("second");
  second.commit();
  CHECK(read_text_file(folder / "x") == "second");
  first.commit();
  CHECK(read_text_file(folder / "x") == "first");
}

TEST_CASE("atomic file: a full disk leaves the old file and nothing half-written") {
  const TemporaryFolder folder;
  folder.write("x", "old");
  {
    const FileSizeLimit limit(4096);
    check_refused<Error>([&] { write_file_atomically(folder / "x", std::string(100000, 'x')); },
                         "cannot write " + (folder / "x").string() + ": File too large");
  }
  CHECK(read_text_file(folder / "x") == "old");
  CHECK(folder.names() == Names{"x"});
}

TEST_CASE("atomic file: places that cannot be written are named") {
  const TemporaryFolder folder;
  check_refused<Error>([&] { AtomicFile(folder / "absent" / "x"); }, "absent does not exist");
  check_refused<Error>([&] { AtomicFile(folder.path()); }, "it is a folder");
  check_refused<Error>([&] { AtomicFile(""); }, "the path is empty");
}

TEST_CASE("atomic folder: appears at commit, with missing parents") {
  const TemporaryFolder folder;
  {
    // A final slash changes nothing.
    AtomicFolder output((folder / "a" / "out").string() + "/");
    fs::create_directory(output.path() / "deep");
    write_file_atomically(output.path() / "deep" / "x", "1");
    CHECK_FALSE(fs::exists(folder / "a" / "out"));
    output.commit();
  }
  CHECK(read_text_file(folder / "a" / "out" / "deep" / "x") == "1");
  CHECK(std::distance(fs::directory_iterator(folder / "a"), {}) == 1);
}

TEST_CASE("atomic folder: without commit nothing stays") {
  const TemporaryFolder folder;
  {
    AtomicFolder output(folder / "out");
    write_file_atomically(output.path() / "x", "1");
  }
  CHECK(folder.names().empty());
}

TEST_CASE("atomic folder: takes the place of an empty folder, of a full one only if asked") {
  const TemporaryFolder folder;
  fs::create_directory(folder / "out");
  {
    AtomicFolder output(folder / "out");
    write_file_atomically(output.path() / "x", "1");
    output.commit();
  }
  CHECK(read_text_file(folder / "out" / "x") == "1");
  check_refused<Error>([&] { AtomicFolder(folder / "out"); }, "the folder exists and is not empty");
  {
    AtomicFolder output(folder / "out", /*replace=*/true);
    write_file_atomically(output.path() / "y", "2");
    CHECK(read_text_file(folder / "out" / "x") == "1");
    output.commit();
  }
  CHECK_FALSE(fs::exists(folder / "out" / "x"));
  CHECK(read_text_file(folder / "out" / "y") == "2");
  { const AtomicFolder dropped(folder / "out", /*replace=*/true); }
  CHECK(read_text_file(folder / "out" / "y") == "2");
  CHECK(folder.names() == Names{"out"});
}

TEST_CASE("atomic folder: a file is never replaced by a folder") {
  const TemporaryFolder folder;
  folder.write("out", "file");
  for (const bool replace : {false, true}) {
    check_refused<Error>([&] { AtomicFolder(folder / "out", replace); },
                         "expected a folder or nothing, found a file");
  }
  check_refused<Error>([&] { AtomicFolder(folder / "out" / "below"); }, "cannot write ");
  CHECK(read_text_file(folder / "out") == "file");
}
