#include "data/bpe/added_tokens.h"

#include <fmt/format.h>

#include "support/catch.h"

using tigon::AddedToken;
using tigon::AddedTokenFinder;

namespace {

std::string parts(const std::vector<AddedToken>& tokens, const std::string& text) {
  std::string shown;
  AddedTokenFinder(tokens).for_each_part(text, [&](size_t begin, size_t end, int32_t id) {
    const std::string part = text.substr(begin, end - begin);
    shown += id < 0 ? fmt::format("({})", part) : fmt::format("[{}={}]", id, part);
  });
  return shown;
}

}  // namespace

TEST_CASE("the longest token at the leftmost place is found") {
  const std::vector<AddedToken> tokens = {{.content = "<a>", .id = 1},
                                          {.content = "<a>b", .id = 2}};
  CHECK(parts(tokens, "x<a><a>bc<a") == "(x)[1=<a>][2=<a>b](c<a)");
  CHECK(parts(tokens, "<<a>") == "(<)[1=<a>]");
  CHECK(parts(tokens, "").empty());
  CHECK(parts({}, "text") == "(text)");
}

TEST_CASE("tokens take white space and stand alone where they say so") {
  CHECK(parts({{.content = "T", .id = 1, .takes_left = true}}, "a \u3000T b") ==
        "(a)[1= \u3000T]( b)");
  CHECK(parts({{.content = "T", .id = 1, .takes_right = true}}, "a T \n b") == "(a )[1=T \n ](b)");
  CHECK(parts({{.content = "T", .id = 1, .takes_left = true, .takes_right = true}}, "T T") ==
        "[1=T ][1=T]");
  const std::vector<AddedToken> word = {{.content = "T", .id = 1, .is_single_word = true}};
  CHECK(parts(word, "aT T T\u0301 T") == "(aT )[1=T]( T\u0301 )[1=T]");
}
