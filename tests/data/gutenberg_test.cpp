// The corpus and tokenizer of the figures that tigon reports.
#include "data/rows.h"
#include "support/catch.h"
#include "support/shared_material.h"
#include "support/temporary_folder.h"

using namespace tigon::testing;

TEST_CASE("held-out rows of the protocol") {
  TIGON_SHARED_OR_SKIP(corpus, "corpus/gutenberg-val.txt.xz");
  TIGON_SHARED_OR_SKIP(model, "models/gutenberg-25m");
  const TemporaryFolder folder;
  const auto tokenizer = tigon::load_tokenizer(model);
  REQUIRE(tokenizer->vocab_size() == 8192);
  REQUIRE(tokenizer->bos_id() == 1);
  auto shard = tigon::open_token_shard({corpus}, *tokenizer, folder.path(), 2);
  // As the Python package counts them: 24 documents, 2,096,150 tokens with a BOS each.
  CHECK(shard.num_documents() == 24);
  CHECK(shard.num_tokens() == 2096150 - 24);
  const tigon::RowSet rows(std::move(shard), {.order = "file"}, 1, 8192);
  CHECK(rows.size() == 2096150 / 1024);
  CHECK(rows.row(0).tokens[0] == 1);
}
