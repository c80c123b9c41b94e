#include "data/mixture.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "data/corpus_files.h"
#include "data/loader.h"
#include "support/catch.h"
#include "support/refusal.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

/// Rows of four equal letters, one for each letter.
RowSet letter_rows(const TemporaryFolder& folder, const std::string& letters,
                   const std::string& order = "rows") {
  std::vector<std::string> documents;
  for (const char letter : letters) documents.emplace_back(4, letter);
  return RowSet(byte_shard(folder, documents),
                {.seq_len = 4, .bos = "none", .order = order, .seed = 3}, 256, 258);
}

std::string read(MixtureReader& reader, int64_t count) {
  std::string letters;
  for (int64_t i = 0; i < count; ++i) {
    letters.push_back(static_cast<char>(reader.next().tokens[0]));
  }
  return letters;
}

std::string read(const Mixture& mixture, int64_t count, int64_t from = 0) {
  MixtureReader reader(mixture, from);
  return read(reader, count);
}

}  // namespace

TEST_CASE("shares hold to a row at every moment, and every pass reads an entry whole") {
  const TemporaryFolder folder;
  const Mixture mixture({{letter_rows(folder, "abcdefg"), 5},
                         {letter_rows(folder, "ABC"), 2},
                         {letter_rows(folder, "0123456789"), 1}});
  const std::string letters = read(mixture, 800);
  std::array<double, 3> given{};
  for (size_t i = 0; i < letters.size(); ++i) {
    const char c = letters[i];
    ++given[c >= 'a' ? 0 : c >= 'A' ? 1 : 2];
    const double rows = static_cast<double>(i) + 1;
    CHECK(std::abs(given[0] - rows * 5 / 8) <= 1);
    CHECK(std::abs(given[1] - rows * 2 / 8) <= 1);
    CHECK(std::abs(given[2] - rows * 1 / 8) <= 1);
  }
  std::string small;
  for (const char c : letters) {
    if (c >= 'A' && c <= 'C') small.push_back(c);
  }
  for (size_t i = 0; i + 3 <= small.size(); i += 3) {
    std::string pass = small.substr(i, 3);
    std::ranges::sort(pass);
    CHECK(pass == "ABC");
  }
  // The slowest entry, ten rows at an eighth.
  CHECK((mixture.size() > 72 && mixture.size() <= 80));
  CHECK(!mixture.max_rows());
}

TEST_CASE("a limited entry stops, and the others share on") {
  const TemporaryFolder folder;
  const Mixture mixture({{letter_rows(folder, "ab"), 3, 4},
                         {letter_rows(folder, "XY"), 1, 6},
                         {letter_rows(folder, "xy"), 1, 6}});
  CHECK(mixture.max_rows() == 16);
  CHECK(mixture.size() == 8);
  const std::string letters = read(mixture, 16);
  CHECK(std::ranges::count_if(letters, [](char c) { return c == 'a' || c == 'b'; }) == 4);
  const std::string rest = letters.substr(letters.find_last_of("ab") + 1);
  for (size_t i = 1; i < rest.size(); ++i) CHECK((rest[i] < 'a') != (rest[i - 1] < 'a'));
  check_refused([&] { read(mixture, 17); }, "every entry has reached its limit");
}

TEST_CASE("a mixture restored gives the rows of an uninterrupted run") {
  const TemporaryFolder folder;
  const Mixture mixture({{letter_rows(folder, "abcdefg"), 0.3}, {letter_rows(folder, "ABC"), 0.7}});
  const std::string whole = read(mixture, 200);
  for (int64_t from : {0, 1, 7, 50, 133}) {
    CHECK(read(mixture, 60, from) == whole.substr(static_cast<size_t>(from), 60));
  }
  Loader loader(mixture, 3);
  for (int i = 0; i < 25; ++i) loader.next();
  const Json position = loader.position();
  Loader resumed(mixture, 3);
  resumed.restore(position);
  for (int i = 0; i < 10; ++i) {
    const auto expected = loader.next(), found = resumed.next();
    for (size_t row = 0; row < 3; ++row) CHECK(found[row].tokens == expected[row].tokens);
  }
  const Mixture other({{letter_rows(folder, "abcdefg"), 0.4}, {letter_rows(folder, "ABC"), 0.6}});
  Loader wrong(other, 3);
  check_refused([&] { wrong.restore(position); }, "loader position");
}

TEST_CASE("mixtures that have no meaning are refused") {
  const TemporaryFolder folder;
  const RowSet rows = letter_rows(folder, "ab");
  check_refused([&] { Mixture(std::vector<MixtureEntry>{}); }, "at least one entry");
  check_refused([&] { Mixture({{rows, 0}}); }, "weight: expected a number above 0, found 0");
  check_refused([&] { Mixture({{rows, 1, -1}}); }, "expected a limit of at least 0 rows");
  const RowSet longer(byte_shard(folder, {"abcdefgh"}), {.seq_len = 8, .bos = "none"}, 256, 258);
  check_refused(
      [&] {
        Mixture({{rows, 1}, {longer, 1}});
      },
      "expected rows of one length, found 4 and 8 tokens");
}
