#include "data/rows.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "core/error.h"
#include "data/corpus_files.h"
#include "support/catch.h"
#include "support/refusal.h"

using namespace tigon::testing;
using tigon::Row;
using tigon::RowOptions;
using tigon::RowSet;

namespace {

using Lengths = std::vector<int64_t>;
constexpr int32_t kBos = 256;
constexpr int64_t kVocabSize = 258;

/// Tokens as text, BOS as '^'.
std::string text(const Row& row) {
  std::string result;
  for (const int64_t token : row.tokens) result += token == kBos ? '^' : static_cast<char>(token);
  return result;
}

std::vector<std::string> texts(const RowSet& rows) {
  std::vector<std::string> result;
  for (int64_t i = 0; i < rows.size(); ++i) result.push_back(text(rows.row(i)));
  return result;
}

std::vector<std::string> sorted(std::vector<std::string> rows) {
  std::sort(rows.begin(), rows.end());
  return rows;
}

RowSet make_rows(const TemporaryFolder& folder, const std::vector<std::string>& documents,
                 const RowOptions& options) {
  return RowSet(byte_shard(folder, documents), options, kBos, kVocabSize);
}

/// 60 documents of 1 to 60 letters; every document has its own length.
std::vector<std::string> many_documents() {
  std::vector<std::string> documents;
  for (int i = 1; i <= 60; ++i)
    documents.push_back(std::string(i, static_cast<char>('A' + i % 26)));
  return documents;
}

}  // namespace

TEST_CASE("documents are joined behind BOS and cut into rows") {
  const TemporaryFolder folder;
  const RowSet rows =
      make_rows(folder, {"abc", "d", "efghijklm", "n"}, {.seq_len = 4, .order = "file"});
  // The last partial row, "^n", is dropped.
  CHECK(texts(rows) == std::vector<std::string>{"^abc", "^d^e", "fghi", "jklm"});
  for (int64_t i = 0; i < rows.size(); ++i) CHECK(rows.row(i).segment_lengths == Lengths{4});
  for (const int64_t index : {-1, 4}) {
    check_refused([&] { rows.row(index); },
                  "expected an index from 0 to 3, found " + std::to_string(index));
  }
}

TEST_CASE("rows without BOS hold the documents' ids alone") {
  const TemporaryFolder folder;
  const RowOptions options = {.seq_len = 3, .borders = "documents", .bos = "none", .order = "file"};
  // A tokenizer without BOS (−1) will do.
  const RowSet rows(byte_shard(folder, {"ab", "  ", "cdefg", "hi"}), options, -1, kVocabSize);
  CHECK(texts(rows) == std::vector<std::string>{"abc", "def", "ghi"});
  CHECK(rows.row(0).segment_lengths == Lengths{2, 1});
  CHECK(rows.row(1).segment_lengths == Lengths{3});
  CHECK(rows.row(2).segment_lengths == Lengths{1, 2});
}

TEST_CASE("with borders a segment begins where a document or a row begins") {
  const TemporaryFolder folder;
  const RowOptions options = {.seq_len = 5, .borders = "documents", .order = "file"};
  const RowSet rows = make_rows(folder, {"abc", "d", "  ", "efghijklmnop", "q"}, options);
  CHECK(texts(rows) == std::vector<std::string>{"^abc^", "d^^ef", "ghijk", "lmnop"});
  CHECK(rows.row(0).segment_lengths == Lengths{4, 1});
  // A document without ids is its BOS alone.
  CHECK(rows.row(1).segment_lengths == Lengths{1, 1, 3});
  CHECK(rows.row(2).segment_lengths == Lengths{5});
  CHECK(rows.row(3).segment_lengths == Lengths{5});
}

TEST_CASE("in every row the segments sum to its length and begin with BOS inside it") {
  const TemporaryFolder folder;
  for (const std::string order : {"file", "documents", "rows"}) {
    for (const int64_t seq_len : {1, 7, 32, 100}) {
      const RowSet rows =
          make_rows(folder, many_documents(),
                    {.seq_len = seq_len, .borders = "documents", .order = order, .seed = 5});
      CHECK(rows.size() == (60 * 61 / 2 + 60) / seq_len);
      for (int64_t i = 0; i < rows.size(); ++i) {
        const Row row = rows.row(i);
        const Lengths& lengths = row.segment_lengths;
        REQUIRE(static_cast<int64_t>(row.tokens.size()) == seq_len);
        REQUIRE(std::accumulate(lengths.begin(), lengths.end(), int64_t{0}) == seq_len);
        int64_t position = 0;
        for (const int64_t length : lengths) {
          REQUIRE(length > 0);
          REQUIRE((position == 0 || row.tokens[position] == kBos));
          const auto inside = row.tokens.begin() + position + 1;
          REQUIRE(std::count(inside, inside + length - 1, kBos) == 0);
          position += length;
        }
      }
    }
  }
}

TEST_CASE("order rows permutes the rows by seed") {
  const TemporaryFolder folder;
  const auto with = [&](const std::string& order, uint64_t seed) {
    return texts(
        make_rows(folder, many_documents(), {.seq_len = 16, .order = order, .seed = seed}));
  };
  const auto in_file = with("file", 1), permuted = with("rows", 1);
  CHECK(permuted != in_file);
  CHECK(sorted(permuted) == sorted(in_file));
  CHECK(with("rows", 1) == permuted);
  CHECK(with("rows", 2) != permuted);
  CHECK(with("file", 2) == in_file);
}

TEST_CASE("the permutation of a seed is the same on every machine") {
  const TemporaryFolder folder;
  const auto rows = make_rows(folder, {"bcdefghijk"}, {.seq_len = 1, .bos = "none", .seed = 1});
  std::string letters;
  for (const std::string& row : texts(rows)) letters += row;
  // Computed with an independent splitmix64 and Fisher-Yates.
  CHECK(letters == "bgikdjfhec");
}

TEST_CASE("order documents shuffles whole documents by seed") {
  const TemporaryFolder folder;
  const auto stream = [&](const std::string& order, uint64_t seed) {
    std::string joined;
    for (const auto& row :
         texts(make_rows(folder, many_documents(), {.seq_len = 1, .order = order, .seed = seed}))) {
      joined += row;
    }
    return joined;
  };
  const std::string in_file = stream("file", 1), shuffled = stream("documents", 1);
  CHECK(shuffled.size() == in_file.size());
  CHECK(shuffled != in_file);
  CHECK(stream("documents", 1) == shuffled);
  CHECK(stream("documents", 2) != shuffled);
  // Every document is still in one piece.
  for (const std::string& document : many_documents()) {
    CHECK((shuffled + "^").find("^" + document + "^") != std::string::npos);
  }
}

TEST_CASE("max_tokens takes the first tokens and max_rows the first rows") {
  const TemporaryFolder folder;
  RowOptions options = {.seq_len = 16, .order = "file"};
  const auto all = texts(make_rows(folder, many_documents(), options));
  options.max_tokens = 16 * 20 + 15;
  const auto prefix = texts(make_rows(folder, many_documents(), options));
  CHECK(prefix == std::vector(all.begin(), all.begin() + 20));
  // Rows are permuted within the first tokens, then the first of them are taken.
  options.order = "rows";
  const auto permuted = texts(make_rows(folder, many_documents(), options));
  CHECK(sorted(permuted) == sorted(prefix));
  options.max_rows = 7;
  const auto first = texts(make_rows(folder, many_documents(), options));
  CHECK(first == std::vector(permuted.begin(), permuted.begin() + 7));
  // More than there is means all.
  options.max_tokens = 1 << 20;
  options.max_rows = 1 << 20;
  CHECK(texts(make_rows(folder, many_documents(), options)).size() == all.size());
}

TEST_CASE("the last rows can be set apart") {
  const TemporaryFolder folder;
  RowSet rows = make_rows(folder, many_documents(), {.seq_len = 16, .seed = 9});
  const auto all = texts(rows);
  const RowSet apart = rows.split_off_last(10);
  CHECK(texts(apart) == std::vector(all.end() - 10, all.end()));
  CHECK(texts(rows) == std::vector(all.begin(), all.end() - 10));
  CHECK(apart.shard_key() == rows.shard_key());
  for (const int64_t count : {int64_t{-1}, int64_t{0}, rows.size()}) {
    check_refused([&] { rows.split_off_last(count); },
                  "rows: expected to set 1 to " + std::to_string(rows.size() - 1));
  }
}

TEST_CASE("rows that cannot be made are refused") {
  const TemporaryFolder folder;
  const std::vector<std::string> documents = {"abc", "def"};
  check_refused([&] { make_rows(folder, documents, {.seq_len = 9}); },
                "expected at least one row of 9 tokens, found a text of 8 tokens");
  check_refused([&] { make_rows(folder, documents, {.seq_len = 4, .max_tokens = 3}); },
                "expected at least one row of 4 tokens, found a text of 3 tokens");
  const RowOptions options = {.seq_len = 4};
  check_refused([&] { RowSet(byte_shard(folder, documents), options, -1, kVocabSize); },
                "bos: the tokenizer has no BOS token");
  check_refused([&] { RowSet(byte_shard(folder, documents), options, kBos, 256); },
                "bos: expected an id below the model's vocabulary of 256, found 256");
  const RowOptions without_bos = {.seq_len = 3, .bos = "none"};
  check_refused([&] { RowSet(byte_shard(folder, documents), without_bos, -1, 'f'); },
                "token ids: expected ids below the model's vocabulary of 102, found 102");
  CHECK_NOTHROW(RowSet(byte_shard(folder, documents), without_bos, -1, 'f' + 1));
}

TEST_CASE("row options without a meaning are refused") {
  const TemporaryFolder folder;
  const auto refuse = [&](const RowOptions& options, const std::string& message) {
    check_refused([&] { make_rows(folder, {"abcdef"}, options); }, message);
    CHECK_THROWS_AS(make_rows(folder, {"abcdef"}, options), tigon::UsageError);
  };
  refuse({.seq_len = 0}, "seq_len: expected at least 1, found 0");
  refuse({.seq_len = 2, .borders = "rows"},
         "borders: expected one of none, documents, found \"rows\"");
  refuse({.seq_len = 2, .bos = "yes"}, "bos: expected one of document, none, found \"yes\"");
  refuse({.seq_len = 2, .order = "random"},
         "order: expected one of file, documents, rows, found \"random\"");
  refuse({.seq_len = 2, .max_tokens = -1}, "expected max_tokens and max_rows of at least 0");
  refuse({.seq_len = 2, .max_rows = -1}, "expected max_tokens and max_rows of at least 0");
}

TEST_CASE("row options are read from a config") {
  auto reader = tigon::ConfigReader::from_text(
      "seq_len: 512\nborders: documents\nbos: none\norder: documents\nseed: 7\nmax_tokens: 20M\n"
      "max_rows: 64\n",
      "a.yaml");
  const RowOptions options = read_row_options(reader);
  reader.finish();
  CHECK(options.seq_len == 512);
  CHECK(options.borders == "documents");
  CHECK(options.bos == "none");
  CHECK(options.order == "documents");
  CHECK(options.seed == 7);
  CHECK(options.max_tokens == 20000000);
  CHECK(options.max_rows == 64);

  auto empty = tigon::ConfigReader::from_text("{}", "a.yaml");
  const RowOptions kept = read_row_options(empty, {.seq_len = 77, .order = "file", .seed = 3});
  CHECK((kept.seq_len == 77 && kept.order == "file" && kept.seed == 3));

  auto wrong = tigon::ConfigReader::from_text("seq_len: 1\norder: shuffled\nmax_rows: -1\n", "a");
  read_row_options(wrong);
  CHECK_THROWS_AS(wrong.finish(), tigon::ConfigError);
}

TEST_CASE("the key of rows names their tokens and their order") {
  const TemporaryFolder folder;
  const RowOptions options = {.seq_len = 8, .order = "file"};
  const auto key = [&](const RowOptions& with) {
    return make_rows(folder, many_documents(), with).key();
  };
  std::set<std::string> keys = {key(options)};
  CHECK(key(options) == *keys.begin());
  RowOptions seeded = options;
  seeded.seed = 3;
  CHECK(key(seeded) == key(options));  // it orders nothing here
  for (RowOptions other :
       std::vector<RowOptions>{{.seq_len = 4, .order = "file"},
                               {.seq_len = 8, .bos = "none", .order = "file"},
                               {.seq_len = 8, .borders = "documents", .order = "file"},
                               {.seq_len = 8, .order = "rows"},
                               {.seq_len = 8, .order = "rows", .seed = 3},
                               {.seq_len = 8, .order = "documents"},
                               {.seq_len = 8, .order = "documents", .seed = 3},
                               {.seq_len = 8, .order = "file", .max_rows = 2}}) {
    CHECK(keys.insert(key(other)).second);
  }
  const RowSet rows = make_rows(folder, many_documents(), options);
  CHECK(keys.insert(rows.part(1, 2).key()).second);
  CHECK(rows.part(0, rows.size()).key() == rows.key());
}
