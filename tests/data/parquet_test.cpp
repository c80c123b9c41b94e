#include "data/parquet.h"

#include "support/catch.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"

using namespace tigon::testing;

TEST_CASE("a file that is no Parquet is refused by name, in a build with and without Arrow") {
  const TemporaryFolder folder;
  const auto ignore = [](tigon::Json&&, int64_t) {};
  for (const char* bytes : {"", "PAR1", "PAR1 and then something that is no table PAR1"}) {
    const auto file = folder.write("a.parquet", bytes);
    check_refused([&] { tigon::for_each_parquet_row(file, {"text"}, ignore); }, "a.parquet: ");
  }
}
