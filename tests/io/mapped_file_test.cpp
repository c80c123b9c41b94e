#include "io/mapped_file.h"

#include <utility>

#include "core/error.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"

using namespace tigon;
using namespace tigon::testing;

TEST_CASE("mapped file: the bytes of a file, and none of an empty one") {
  const TemporaryFolder folder;
  MappedFile file(folder.write("x", "abc"));
  REQUIRE(file.bytes().size() == 3);
  CHECK(file.bytes()[2] == std::byte{'c'});
  const MappedFile moved = std::move(file);
  CHECK(moved.bytes().size() == 3);
  CHECK(MappedFile(folder.write("empty", "")).bytes().empty());
}

TEST_CASE("mapped file: what cannot be mapped is named") {
  const TemporaryFolder folder;
  check_refused<Error>([&] { MappedFile(folder / "absent"); }, "absent: No such file or directory");
  check_refused<Error>([&] { MappedFile(folder.path()); },
                       "expected a regular file, found a folder");
  check_refused<Error>([&] { MappedFile("/dev/null"); },
                       "expected a regular file, found a special file");
}
