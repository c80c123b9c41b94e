#include "data/loader.h"

#include <algorithm>
#include <fstream>

#include "core/error.h"
#include "data/corpus_files.h"
#include "support/catch.h"
#include "support/refusal.h"

using namespace tigon::testing;
using tigon::Json;
using tigon::Loader;
using tigon::Row;
using tigon::RowOptions;
using tigon::RowSet;

namespace {

/// 26 rows of 8 tokens: row i is eight times the letter 'a' + i.
RowSet letter_rows(const TemporaryFolder& folder, const RowOptions& options) {
  std::string text;
  for (char letter = 'a'; letter <= 'z'; ++letter) text += std::string(8, letter);
  return RowSet(byte_shard(folder, {text}), options, -1, 256);
}

RowOptions row_options(const std::string& order) {
  return {.seq_len = 8, .bos = "none", .order = order, .seed = 4};
}

/// The letters of the next `count` batches.
std::string read(Loader& loader, int count) {
  std::string letters;
  for (int i = 0; i < count; ++i) {
    for (const Row& row : loader.next()) letters += static_cast<char>(row.tokens[0]);
  }
  return letters;
}

std::string sorted(std::string letters) {
  std::sort(letters.begin(), letters.end());
  return letters;
}

constexpr const char* kAlphabet = "abcdefghijklmnopqrstuvwxyz";

}  // namespace

TEST_CASE("a loader hands out batch after batch, epoch after epoch") {
  const TemporaryFolder folder;
  const RowSet rows = letter_rows(folder, row_options("file"));
  Loader loader(rows, 4);
  CHECK(loader.next().size() == 4);
  CHECK(loader.epoch() == 0);
  // A batch may lie across two epochs.
  CHECK(read(loader, 6) == "efghijklmnopqrstuvwxyzab");
  CHECK(loader.epoch() == 1);
  CHECK(read(loader, 6) == "cdefghijklmnopqrstuvwxyz");
  CHECK(loader.epoch() == 2);
}

TEST_CASE("a batch may be larger than an epoch") {
  const TemporaryFolder folder;
  const RowSet rows = letter_rows(folder, row_options("file"));
  Loader loader(rows, 60);
  CHECK(read(loader, 1) == std::string(kAlphabet) + kAlphabet + "abcdefgh");
  CHECK(loader.epoch() == 2);
  CHECK(read(loader, 1).substr(0, 3) == "ijk");
}

TEST_CASE("every epoch has its own permutation with order rows") {
  const TemporaryFolder folder;
  const RowSet rows = letter_rows(folder, row_options("rows"));
  std::string own;
  for (int64_t i = 0; i < rows.size(); ++i) own += static_cast<char>(rows.row(i).tokens[0]);
  Loader loader(rows, 13);
  const std::string first = read(loader, 2), second = read(loader, 2), third = read(loader, 2);
  CHECK(first == own);
  for (const std::string& epoch : {first, second, third}) CHECK(sorted(epoch) == kAlphabet);
  CHECK((first != second && second != third && first != third));
  Loader again(rows, 13);
  CHECK(read(again, 6) == first + second + third);
}

TEST_CASE("order documents keeps its order in every epoch") {
  const TemporaryFolder folder;
  std::vector<std::string> documents;
  for (char letter = 'a'; letter <= 'z'; ++letter) documents.push_back(std::string(8, letter));
  const RowSet rows(byte_shard(folder, documents), row_options("documents"), -1, 256);
  Loader loader(rows, 26);
  const std::string first = read(loader, 1);
  CHECK(first != kAlphabet);
  CHECK(sorted(first) == kAlphabet);
  CHECK(read(loader, 1) == first);
}

TEST_CASE("a set that was split keeps to its own rows in every epoch") {
  const TemporaryFolder folder;
  RowSet rows = letter_rows(folder, row_options("rows"));
  RowSet apart = rows.split_off_last(6);
  Loader left(rows, 20), right(apart, 6);
  const std::string left_letters = sorted(read(left, 1)), right_letters = sorted(read(right, 1));
  CHECK(sorted(left_letters + right_letters) == kAlphabet);
  CHECK(sorted(read(left, 1)) == left_letters);
  CHECK(sorted(read(right, 1)) == right_letters);
}

TEST_CASE("a position restored gives the rows of an uninterrupted run") {
  const TemporaryFolder folder;
  const RowSet rows = letter_rows(folder, row_options("rows"));
  for (const int64_t rows_per_batch : {1, 3, 5, 30}) {
    Loader whole(rows, rows_per_batch);
    // In the middle of the first epoch, around borders, and epochs later.
    for (int step = 0; step < 30; ++step) {
      const Json position = Json::parse(whole.position().dump());
      Loader resumed(rows, rows_per_batch);
      read(resumed, step % 3);
      resumed.restore(position);
      CHECK(resumed.position() == position);
      CHECK(resumed.epoch() == whole.epoch());
      Loader reference(rows, rows_per_batch);
      read(reference, step);
      CHECK(read(resumed, 4) == read(reference, 4));
      read(whole, 1);
    }
  }
}

TEST_CASE("a loader does not need the set it was made from") {
  const TemporaryFolder folder;
  auto rows = std::make_unique<RowSet>(letter_rows(folder, row_options("file")));
  Loader loader(*rows, 26);
  rows.reset();
  CHECK(read(loader, 1) == kAlphabet);
}

TEST_CASE("positions of other rows and malformed ones are refused") {
  const TemporaryFolder folder;
  const RowSet rows = letter_rows(folder, row_options("rows"));
  Loader loader(rows, 3);
  read(loader, 2);
  const Json good = loader.position();
  const auto refuse = [&](const char* key, const Json& value, const std::string& message) {
    Json bad = good;
    bad[key] = value;
    check_refused([&] { loader.restore(bad); }, message);
    bad.erase(key);
    check_refused([&] { loader.restore(bad); }, "found nothing");
  };
  refuse("row", 26, "loader position: row: expected an integer from 0 to 25, found 26");
  refuse("row", -1, "row: expected an integer from 0 to 25, found -1");
  refuse("row", "2", "row: expected an integer from 0 to 25, found \"2\"");
  refuse("epoch", -1, "epoch: expected an integer from 0");
  refuse("epoch", ~uint64_t{0}, "epoch: expected an integer from 0");
  refuse("epoch", 1.5, "epoch: expected an integer from 0");
  refuse("rows", 25, "loader position: rows: expected 26, found 25");
  refuse("shard", "other", "loader position: shard: expected");
  refuse("order", "file", "loader position: order: expected \"rows\", found \"file\"");
  refuse("seed", 5, "loader position: seed: expected 4, found 5");
  check_refused([&] { loader.restore(Json::array()); }, "expected an object, found []");
  // The loader goes on as if nothing had been asked.
  Loader reference(rows, 3);
  read(reference, 2);
  CHECK(read(loader, 3) == read(reference, 3));
}

TEST_CASE("a loader ends at once while its thread is full, and while it reads") {
  const TemporaryFolder folder;
  const RowSet rows = letter_rows(folder, row_options("rows"));
  for (int i = 0; i < 200; ++i) {
    Loader loader(rows, 1 + i % 5);
    if (i % 2 == 0) loader.next();
    if (i % 3 == 0) loader.restore(loader.position());
  }
  check_refused([&] { Loader loader(rows, 0); }, "rows a batch: expected at least 1, found 0");
}

TEST_CASE("what goes wrong while reading ahead is thrown by next()") {
  const TemporaryFolder folder;
  const RowSet rows = letter_rows(folder, row_options("file"));
  // The shard's file is changed while it is mapped: the last row gets an id beyond the vocabulary.
  const auto path = folder.path() / "cache" / (rows.shard_key() + ".tokens");
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  const uint32_t wrong = 1000;
  file.seekp(16 + 25 * 8 * 4);
  file.write(reinterpret_cast<const char*>(&wrong), sizeof(wrong));
  file.close();
  REQUIRE(file);
  Loader loader(rows, 5);
  // What was read before is still good.
  CHECK(read(loader, 5) == std::string(kAlphabet).substr(0, 25));
  for (int i = 0; i < 2; ++i) {
    check_refused([&] { loader.next(); },
                  "expected ids below the model's vocabulary of 256, found 1000");
  }
  loader.restore([&] {
    Loader fresh(rows, 5);
    return fresh.position();
  }());
  CHECK(read(loader, 1) == "abcde");
}
