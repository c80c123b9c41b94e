#include "data/record_splitter.h"

#include <vector>

#include "support/catch.h"
#include "support/refusal.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

using Records = std::vector<std::pair<std::string, int64_t>>;

/// Texts and lines of the records, fed in pieces of `size` bytes; "…" for one that is too long.
template <class Make>
Records split(const std::string& text, size_t size, const Make& make) {
  Records records;
  const auto splitter = make([&](const RawRecord& record) {
    records.emplace_back(record.is_too_long ? "…" : std::string(record.text), record.line);
  });
  for (size_t i = 0; i < text.size(); i += size) splitter->add(text.substr(i, size));
  splitter->finish();
  return records;
}

Records lines(const std::string& text, size_t size = 3, size_t limit = 100) {
  return split(text, size, [&](auto visit) { return make_line_splitter(visit, limit); });
}

Records elements(const std::string& text, size_t size = 3, size_t limit = 100) {
  return split(text, size, [&](auto visit) { return make_array_splitter("a.json", visit, limit); });
}

}  // namespace

TEST_CASE("records a line are found wherever the pieces end") {
  for (const size_t size : {1, 2, 5, 1000}) {
    CHECK(lines("\xEF\xBB\xBF{\"a\":1}\n\n  \r\n{\"b\":\n2}\r\nlast", size) ==
          Records{{"{\"a\":1}", 1}, {"{\"b\":", 4}, {"2}\r", 5}, {"last", 6}});
    CHECK(lines("short\nmuch too long\nshort", size, 6) ==
          Records{{"short", 1}, {"…", 2}, {"short", 3}});
    CHECK(lines("", size).empty());
  }
}

TEST_CASE("the elements of an array are found wherever the pieces end") {
  for (const size_t size : {1, 2, 5, 1000}) {
    CHECK(elements("\xEF\xBB\xBF [ {\"a\": [1, {}]},\n\"x]\\\"},\\\\\" , 12\n,null]\n", size) ==
          Records{{"{\"a\": [1, {}]}", 1}, {"\"x]\\\"},\\\\\" ", 2}, {"12\n", 2}, {"null", 3}});
    CHECK(elements("[]", size).empty());
    CHECK(elements("[{\"a\":1},{\"a\":123456},{\"a\":2}]", size, 8) ==
          Records{{"{\"a\":1}", 1}, {"…", 1}, {"{\"a\":2}", 1}});
  }
}

TEST_CASE("what is no array is refused with its line") {
  const auto refuse = [](const std::string& text, const std::string& message) {
    for (const size_t size : {1, 1000}) {
      check_refused([&] { elements(text, size); }, message);
    }
  };
  refuse("", "a.json line 1: expected a JSON array of records, found the end of the file");
  refuse("\n[{\"a\": 1},\n", "a.json line 3: expected a JSON array of records, found the end");
  refuse("[{\"a\": \"x", "a.json line 1: expected a JSON array of records, found the end");
  refuse("{\"a\": 1}", "a.json line 1: expected a JSON array of records ([…]; a file with");
  refuse("[{}\n{}]", "a.json line 2: expected a comma or the end of the array, found '{'");
  refuse("[{},]", "expected a record, found ']'");
  refuse("[,{}]", "expected a record, found ','");
  refuse("[}", "expected a record, found '}'");
  refuse("[{}] []", "expected nothing after the array, found '['");
}
