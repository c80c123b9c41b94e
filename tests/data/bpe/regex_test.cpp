#include "data/bpe/regex.h"

#include <vector>

#include "core/error.h"
#include "data/bpe/oniguruma_syntax.h"
#include "support/catch.h"
#include "support/refusal.h"

using namespace tigon::testing;
using tigon::Regex;

namespace {

std::vector<std::string> matches(const std::string& pattern, const std::string& text) {
  std::vector<std::string> found;
  Regex(pattern, "test").for_each_match(text, [&](size_t begin, size_t end) {
    found.push_back(text.substr(begin, end - begin));
  });
  return found;
}

using Texts = std::vector<std::string>;

void check_unknown(const std::string& pattern, const std::string& message) {
  check_refused<tigon::Error>([&] { Regex(pattern, "test"); }, message);
}

}  // namespace

TEST_CASE("patterns mean what they mean in Oniguruma") {
  // U+180E is no white space, U+0085 is.
  CHECK(matches(R"(\s)", "a\u180E\u0085b ") == Texts{"\u0085", " "});
  CHECK(matches(R"([^\s]+)", "a\u180E b") == Texts{"a\u180E", "b"});
  CHECK(matches(R"(\h+)", "x1F ") == Texts{"1F"});
  CHECK(matches(R"(\v)", "\n\v") == Texts{"\v"});
  CHECK(matches("^b$", "a\nb\nc") == Texts{"b"});
  CHECK(matches(R"(\d{1,2}+)", "12345") == Texts{"12345"});
  CHECK(matches("a{,2}b", "aaab") == Texts{"aab"});
  CHECK(matches("a{x", "a{x") == Texts{"a{x"});
  CHECK(matches("(?i:'s|'T)", "'S'ſ't") == Texts{"'S", "'ſ", "'t"});
  CHECK(matches(R"(\bno\b)", "no note no") == Texts{"no", "no"});
  CHECK(matches(R"(\p{Han}+|\p{^L})", "漢字a、") == Texts{"漢字", "、"});
  CHECK(matches(R"([\]\-{}^]+)", "a]-{}^") == Texts{"]-{}^"});
}

TEST_CASE("empty matches stand between characters and not behind a match") {
  CHECK(matches(R"(\d*)", "1é") == Texts{"1", ""});
  CHECK(matches("x*", "").size() == 1);
}

TEST_CASE("the parts of a text are matches and what lies between") {
  std::string shown;
  Regex::literal("a.", "test").for_each_part("xa.ab", [&](size_t begin, size_t end, bool is_match) {
    shown += fmt::format("{}-{}{} ", begin, end, is_match ? "!" : "");
  });
  CHECK(shown == "0-1 1-3! 3-5 ");
}

TEST_CASE("patterns without an equal are refused") {
  check_unknown("(a", "expected a closing )");
  check_unknown("a)", "expected an opening ( first");
  check_unknown("[a", "expected more of the pattern");
  check_unknown(R"((a)\1)", R"(found \1)");
  check_unknown("[a&&b]", "a set operation in brackets");
  check_unknown("[a[b]]", "a set operation in brackets");
  check_unknown("a(?i)b", "found (?i)");
  check_unknown(R"(\p{Nonsense})", "test: pattern \"\\p{Nonsense}\"");
  check_unknown("*a", "test: pattern \"*a\"");
  check_unknown("a\xFF", "expected UTF-8");
}

TEST_CASE("hostile patterns stop with an error") {
  const std::string text = std::string(40, 'a') + "!";
  check_refused<tigon::Error>([&] { matches("(a+)+$", text); }, "match limit exceeded");
}
