#include "data/content_hash.h"

#include "support/catch.h"

using tigon::ContentHash;

TEST_CASE("a content hash depends on the bytes and on where parts end") {
  const std::string hash = ContentHash().add("ab").add("c").hex();
  CHECK(hash.size() == 32);
  CHECK(hash.find_first_not_of("0123456789abcdef") == std::string::npos);
  CHECK(ContentHash().add("ab").add("c").hex() == hash);
  CHECK(ContentHash().add("a").add("bc").hex() != hash);
  CHECK(ContentHash().add("abc").hex() != hash);
  CHECK(ContentHash().add("ab").add("d").hex() != hash);
  CHECK(ContentHash().hex() != ContentHash().add("").hex());
}
