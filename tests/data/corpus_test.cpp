#include "data/corpus.h"

#include <lzma.h>

#include <utility>

#include "core/error.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"

using namespace std::string_literals;
using tigon::for_each_document;
using tigon::testing::check_refused;
using tigon::testing::TemporaryFolder;

namespace {

using Documents = std::vector<std::string>;

Documents read(const std::vector<std::filesystem::path>& files) {
  Documents documents;
  for_each_document(files, [&](tigon::Document&& document) {
    REQUIRE(document.pieces.size() == 1);
    documents.push_back(document.pieces[0].text);
  });
  return documents;
}

std::string xz(const std::string& text) {
  std::string packed(lzma_stream_buffer_bound(text.size()), '\0');
  size_t size = 0;
  const auto code = lzma_easy_buffer_encode(
      6, LZMA_CHECK_CRC64, nullptr, reinterpret_cast<const uint8_t*>(text.data()), text.size(),
      reinterpret_cast<uint8_t*>(packed.data()), &size, packed.size());
  REQUIRE(code == LZMA_OK);
  packed.resize(size);
  return packed;
}

}  // namespace

TEST_CASE("documents are separated by lines that hold one NUL byte") {
  const TemporaryFolder folder;
  const std::vector<std::pair<std::string, Documents>> cases = {
      {"", {}},
      {"\n\n\r\n", {}},
      {"\0"s, {}},
      {"\0\n\n\0\n"s, {}},
      {"one", {"one"}},
      {"\n\none\ntwo\n\n", {"one\ntwo"}},
      {"one\n\0\ntwo"s, {"one", "two"}},
      {"\0\none\n\0\n\n\0\ntwo\n\0"s, {"one", "two"}},
      {"one\r\ntwo\r\n\0\r\nthree\r\n"s, {"one\r\ntwo", "three"}},
      // A NUL byte inside a line, or two of them, is text.
      {"a\0b\n\0\0\n \0\nc"s, {"a\0b\n\0\0\n \0\nc"s}},
      {" spaces \n\n  stay \n"s, {" spaces \n\n  stay "}},
  };
  for (const auto& [text, expected] : cases) {
    CHECK(read({folder.write("a.txt", text)}) == expected);
    CHECK(read({folder.write("a.xz", xz(text))}) == expected);
  }
}

TEST_CASE("files follow one another and end a document") {
  const TemporaryFolder folder;
  const auto first = folder.write("b.txt", "one\n\0\ntwo"s);
  const auto second = folder.write("a.txt.xz", xz("three"));
  CHECK(read({first, second}) == Documents{"one", "two", "three"});
  CHECK(read({second, first}) == Documents{"three", "one", "two"});
  CHECK(read({}).empty());
}

TEST_CASE("separators are found wherever the pieces of a large file end") {
  const TemporaryFolder folder;
  // Pieces are 1 MiB: the separator's three bytes lie before, across and after that border.
  for (int shift = -4; shift <= 2; ++shift) {
    const std::string first((1 << 20) + shift, 'x'), second((1 << 20) + 3, 'y');
    const std::string text = first + "\n\0\n"s + second + "\n\0\nlast\n"s;
    const Documents expected = {first, second, "last"};
    CHECK(read({folder.write("a.txt", text)}) == expected);
    CHECK(read({folder.write("a.xz", xz(text))}) == expected);
  }
}

TEST_CASE("concatenated xz streams are one text") {
  const TemporaryFolder folder;
  CHECK(read({folder.write("a.xz", xz("one\n\0\ntw"s) + xz("o"))}) == Documents{"one", "two"});
}

TEST_CASE("damaged and unknown files are refused by name") {
  const TemporaryFolder folder;
  const std::string packed = xz("some text that is long enough to be cut");
  check_refused([&] { read({folder.write("cut.xz", packed.substr(0, packed.size() / 2))}); },
                "cut.xz: the packed data are cut off");
  check_refused([&] { read({folder.write("empty.xz", "")}); },
                "empty.xz: the packed data are cut off");
  std::string damaged = packed;
  damaged[damaged.size() / 2] ^= 0x10;
  check_refused([&] { read({folder.write("damaged.xz", damaged)}); },
                "damaged.xz: the xz data are corrupt");
  check_refused([&] { read({folder.write("plain.xz", "just some plain text")}); },
                "plain.xz: expected an xz file, found something else");
  check_refused([&] { read({folder.write("trailing.xz", packed + "trailing bytes")}); },
                "trailing.xz: the xz data are corrupt");
  check_refused([&] { read({folder.write("data.csv", "a,b")}); },
                "data.csv: expected a .txt, .jsonl, .ndjson or .json file");
  check_refused([&] { read({folder.path() / "absent.txt"}); }, "absent.txt: No such file");
  std::filesystem::create_directory(folder.path() / "folder.txt");
  check_refused([&] { read({folder.path() / "folder.txt"}); },
                "folder.txt: expected a regular file");
}

TEST_CASE("a document beyond the limit is refused") {
  const TemporaryFolder folder;
  const auto ignore = [](tigon::Document&&) {};
  const auto file = folder.write("a.txt", "0123456789\n\0\n0123456789"s);
  CHECK_NOTHROW(for_each_document({file}, ignore, {.max_document_bytes = 16}));
  check_refused([&] { for_each_document({file}, ignore, {.max_document_bytes = 9}); },
                "a.txt: expected documents of at most 9 bytes, found a longer one");
}
