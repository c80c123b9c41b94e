#include "ops/row_blocks.h"

#include "support/catch.h"

using namespace tigon;

TEST_CASE("row_blocks gives every thread at most one vector of a short row", "[row_blocks]") {
  for (int64_t vectors = 1; vectors <= 1024; ++vectors) {
    INFO("vectors " << vectors);
    const RowBlocks blocks = row_blocks(vectors);
    CHECK(blocks.threads * blocks.rows == RowBlocks::kThreads);
    CHECK((blocks.threads & (blocks.threads - 1)) == 0);
    CHECK((blocks.threads >= vectors || blocks.threads == RowBlocks::kThreads));
    CHECK((blocks.threads < 2 * vectors || blocks.threads == 1));
  }
  CHECK(row_blocks(8).blocks(1) == 1);
  CHECK(row_blocks(8).blocks(32) == 1);
  CHECK(row_blocks(8).blocks(33) == 2);
}

TEST_CASE("row_slices are at least 64 rows long, and at most 256", "[row_blocks]") {
  CHECK(row_slices(1) == 1);
  CHECK(row_slices(64) == 1);
  CHECK(row_slices(65) == 2);
  CHECK(row_slices(1'000'000'000'000) == 256);
}
