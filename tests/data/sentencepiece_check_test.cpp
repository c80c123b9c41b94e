#include "data/sentencepiece_check.h"

#include <limits>
#include <vector>

#include "core/error.h"
#include "core/random.h"
#include "data/protobuf_writer.h"
#include "data/tokenizer.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/shared_material.h"
#include "support/temporary_folder.h"
#include "support/tiny_tokenizer.h"

using namespace std::string_literals;
using namespace tigon;
using namespace tigon::testing;
using tigon::check_sentencepiece_model;

namespace {

constexpr uint64_t kNormal = 1, kUnknown = 2, kUserDefined = 4;

std::string piece(const std::string& text, uint64_t type = kNormal, float score = 0) {
  return bytes_field(1, bytes_field(1, text) + float_field(2, score) + varint_field(3, type));
}

/// A double-array trie of `units` and its replacement texts, as normalizer_spec holds them.
std::string character_map(const std::vector<uint32_t>& units, const std::string& texts) {
  const uint32_t size = static_cast<uint32_t>(units.size() * sizeof(uint32_t));
  std::string map(reinterpret_cast<const char*>(&size), sizeof(size));
  map.append(reinterpret_cast<const char*>(units.data()), size);
  return map + texts;
}

std::string with_map(const std::string& map) {
  return piece("<unk>", kUnknown) + piece("a") + bytes_field(3, bytes_field(2, map));
}

/// One key, "a", whose replacement text starts at `value`. The root's children lie at 0 ^ 256 ^
/// byte, those of "a" at (256 ^ 'a') ^ 512.
std::vector<uint32_t> one_key(uint32_t value) {
  constexpr uint32_t kHasKey = 1 << 8, kTop = 0x80000000;
  // A unit with the top bit set is nobody's child.
  std::vector<uint32_t> units(1024, kTop);
  units[0] = 256 << 10;
  units[256 ^ 'a'] = 512 << 10 | kHasKey | 'a';
  units[256 ^ 'a' ^ 512] = kTop | value;
  return units;
}

void check_bad(const std::string& model, const std::string& message) {
  check_refused([&] { check_sentencepiece_model(model, "a.model"); }, "a.model: " + message);
}

}  // namespace

TEST_CASE("trained models pass the check") {
  for (const std::string normalization : {"identity", "nmt_nfkc", "nfkc_cf"}) {
    const std::string model = train_tiny_tokenizer({.normalization = normalization});
    CHECK_NOTHROW(check_sentencepiece_model(model, "a.model"));
  }
  CHECK_NOTHROW(check_sentencepiece_model(with_map(character_map(one_key(0), "b\0"s)), "a.model"));
}

TEST_CASE("bad pieces of a tokenizer model are refused") {
  const std::string unknown = piece("<unk>", kUnknown);
  check_bad("", "expected a sentencepiece model, found no pieces");
  check_bad(varint_field(9, 1), "expected a sentencepiece model, found no pieces");
  check_bad(unknown.substr(0, 5), "expected a sentencepiece model, found malformed");
  check_bad(bytes_field(1, "\x0A\x20"), "expected a sentencepiece model, found malformed");
  check_bad(unknown + piece(""), "piece 1: expected 1 to 8000 bytes of UTF-8 without NUL, found 0");
  check_bad(unknown + piece("a\0b"s), "piece 1: expected 1 to 8000 bytes of UTF-8 without NUL");
  check_bad(unknown + piece("\xC3"), "piece 1: expected 1 to 8000 bytes of UTF-8 without NUL");
  check_bad(unknown + piece(std::string(8001, 'x')), "piece 1: expected 1 to 8000 bytes");
  check_bad(unknown + piece("a", kNormal, std::numeric_limits<float>::quiet_NaN()),
            "piece 1: expected a finite score");
  std::string nested = unknown;
  for (size_t length = 1; length <= 33; ++length) {
    nested += piece(std::string(length, 'a'), kUserDefined);
  }
  check_bad(nested, "more than 32 user-defined pieces that begin one another");
}

TEST_CASE("bad character maps of a tokenizer model are refused") {
  const auto refuse = [](const std::string& map) {
    check_bad(with_map(map), "the character map of the normalizer is corrupt");
  };
  const std::vector<uint32_t> good = one_key(0);
  refuse("xy");
  refuse("\xFF\xFF\xFF\xFFxyz");
  refuse(character_map({}, "b\0"s));
  // No text, text without an end, a text that starts beyond the texts.
  refuse(character_map(good, ""));
  refuse(character_map(good, "b"));
  refuse(character_map(one_key(2), "b\0"s));
  // A child, then a key's value, beyond the table.
  std::vector<uint32_t> outside = good;
  outside[0] = 1024 << 10;
  refuse(character_map(outside, "b\0"s));
  outside = good;
  outside[256 ^ 'a'] = 4096 << 10 | 1 << 8 | 'a';
  refuse(character_map(outside, "b\0"s));
  // A unit that is its own child for the byte 'a': a key of any length.
  std::vector<uint32_t> circle = good;
  circle[256 ^ 'a'] = uint32_t{'a'} << 10 | 'a';
  refuse(character_map(circle, "b\0"s));
}

TEST_CASE("damaged models give an error or a working tokenizer, never a crash") {
  const TemporaryFolder folder;
  tigon::Random random(7);
  int refused = 0;
  for (const std::string normalization : {"identity", "nmt_nfkc"}) {
    const std::string model = train_tiny_tokenizer({.normalization = normalization});
    for (int trial = 0; trial < 100; ++trial) {
      std::string damaged = model;
      if (trial % 4 == 0) damaged.resize(random.below(damaged.size()));
      for (uint64_t i = 0; i < 1 + random.below(8) && !damaged.empty(); ++i) {
        damaged[random.below(damaged.size())] = static_cast<char>(random.next());
      }
      try {
        const auto tokenizer = tigon::load_tokenizer(folder.write("a.model", damaged));
        const auto ids = tokenizer->encode(tiny_text(20, trial) + "ﬁ ½ ｱ \n <s>");
        tokenizer->decode(ids);
      } catch (const tigon::Error&) {
        ++refused;
      }
    }
  }
  CHECK(refused > 0);
}

TEST_CASE("models of public tokenizers pass the check") {
  TIGON_SHARED_OR_SKIP(tokenizers, "tokenizers");
  for (const char* name : {"llama2", "mistral-v1"}) {
    CHECK_NOTHROW(tigon::load_tokenizer(tokenizers / name));
  }
}
