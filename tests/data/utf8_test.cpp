#include "data/utf8.h"

#include "support/catch.h"

using tigon::is_valid_utf8;
using tigon::replace_invalid_utf8;

TEST_CASE("valid UTF-8 stays as it is") {
  for (const std::string text : {"", "plain", "é π – 😀", "\xEF\xBF\xBD", "\xF4\x8F\xBF\xBF"}) {
    CHECK(is_valid_utf8(text));
    CHECK(replace_invalid_utf8(text) == text);
  }
  const std::string with_nul("a\0b", 3);
  CHECK(is_valid_utf8(with_nul));
  CHECK(replace_invalid_utf8(with_nul) == with_nul);
}

TEST_CASE("invalid stretches become one U+FFFD each") {
  const std::string r = "\xEF\xBF\xBD";
  // Written and expected, as Python's bytes.decode(errors="replace") gives it.
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"\x80", r},
      {"a\xFFz", "a" + r + "z"},
      // Cut off characters are one stretch.
      {"\xC3", r},
      {"\xE2\x80", r},
      {"\xF0\x9F\x98", r},
      {"\xF0\x9F\x98g", r + "g"},
      {"\xE2\x80\xE2\x80\x93", r + "–"},
      // Overlong forms, surrogates and what lies above U+10FFFF: no byte after the first fits.
      {"\xC0\x80", r + r},
      {"\xE0\x80\x80", r + r + r},
      {"\xED\xA0\x80", r + r + r},
      {"\xF0\x80\x80\x80", r + r + r + r},
      {"\xF4\x90\x80\x80", r + r + r + r},
      {"\xF5\x80", r + r},
  };
  for (const auto& [written, expected] : cases) {
    CHECK_FALSE(is_valid_utf8(written));
    CHECK(replace_invalid_utf8(written) == expected);
  }
}
