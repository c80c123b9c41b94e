#include "data/unpacker.h"

#include <zlib.h>
#include <zstd.h>

#include <string>

#include "data/text_file.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"

using tigon::testing::check_refused;
using tigon::testing::TemporaryFolder;

namespace {

std::string gzip(const std::string& text) {
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string packed(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

std::string zstd(const std::string& text) {
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 3));
  return packed;
}

std::string read(const std::filesystem::path& file) {
  std::string text;
  tigon::for_each_piece(file, [&](std::string_view piece) { text += piece; });
  return text;
}

/// More than one piece, packed and unpacked.
std::string long_text() {
  std::string text;
  uint32_t state = 1;
  while (text.size() < (size_t{3} << 20)) {
    state = state * 1664525 + 1013904223;
    text.push_back(static_cast<char>(state >> 24));
  }
  return text;
}

}  // namespace

TEST_CASE("gzip and zstd files of one or more members are read whole") {
  const TemporaryFolder folder;
  const std::string text = long_text();
  for (const auto& [ending, pack] :
       {std::pair<std::string, std::string (*)(const std::string&)>{".gz", gzip}, {".zst", zstd}}) {
    INFO(ending);
    CHECK((read(folder.write("a.txt" + ending, pack(text))) == text));
    CHECK(read(folder.write("a" + ending, pack(""))).empty());
    CHECK((read(folder.write("a" + ending, pack("one") + pack("") + pack(text))) == "one" + text));
  }
}

TEST_CASE("cut, damaged and foreign gzip and zstd files are refused by name") {
  const TemporaryFolder folder;
  const std::string text = long_text();
  for (const auto& [ending, pack] :
       {std::pair<std::string, std::string (*)(const std::string&)>{".gz", gzip}, {".zst", zstd}}) {
    const std::string name = "a.jsonl" + ending, kind = ending == ".gz" ? "gzip" : "zstd";
    const std::string packed = pack(text);
    const auto refuse = [&](const std::string& bytes, const std::string& message) {
      check_refused([&] { read(folder.write(name, bytes)); }, name + ": " + message);
    };
    refuse("", "the packed data are cut off");
    refuse(packed.substr(0, packed.size() / 2), "the packed data are cut off");
    refuse(packed.substr(0, packed.size() - 1), "the packed data are cut off");
    refuse("just some plain text", "expected a " + kind + " file, found something else");
    std::string damaged = pack(std::string(100000, 'x'));
    damaged[damaged.size() - 6] ^= 0x55;
    check_refused([&] { read(folder.write(name, damaged)); }, name);
    check_refused([&] { read(folder.write(name, pack("one") + "trailing bytes")); }, name);
  }
}
