// Files of records, from disk to rows.
#include <algorithm>

#include "data/corpus.h"
#include "data/corpus_files.h"
#include "data/rows.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/shared_material.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

const DocumentOptions kSkip = {.on_bad_record = "skip"};

struct Found {
  std::vector<std::string> texts;
  CorpusCounts counts;
};

Found read(const std::filesystem::path& file, const DocumentOptions& options = {}) {
  Found found;
  found.counts = for_each_document(
      {file},
      [&](Document&& document) {
        std::string text;
        for (const TextPiece& piece : document.pieces) text += piece.text;
        found.texts.push_back(text);
      },
      options);
  return found;
}

}  // namespace

TEST_CASE("bad records end the reading by name, or are counted") {
  const TemporaryFolder folder;
  const auto file = folder.write("a.jsonl",
                                 "{\"text\": \"one\"}\n{\"text\": \n{\"body\": \"x\"}\n"
                                 "{\"text\": \"\"}\n\n{\"text\": \"much longer\"}\n{\"text\": 5}\n"
                                 "{\"text\": \"a\", \"text\": \"b\"}\n{\"text\": \"two\"}\n");
  check_refused([&] { read(file); }, "a.jsonl line 2: not valid JSON:");
  DocumentOptions skip = kSkip;
  skip.max_document_bytes = 5;
  const Found found = read(file, skip);
  CHECK(found.texts == std::vector<std::string>{"one", "two"});
  CHECK(
      found.counts ==
      CorpusCounts{.documents = 2, .empty = 1, .malformed = 2, .without_field = 2, .too_long = 1});
  CHECK(counts_to_text(found.counts) ==
        "2 documents, 6 skipped (1 empty, 2 malformed, 2 without the field, 1 too long)");
  const auto other = folder.write("b.jsonl", "{\"body\": \"x\", \"id\": 1}");
  check_refused([&] { read(other); },
                "b.jsonl line 1: expected a text under \"text\", found the keys body, id "
                "(data.on_bad_record: skip leaves such records out)");
  const auto deep = folder.write("c.jsonl", std::string(10000, '['));
  check_refused([&] { read(deep); }, "c.jsonl line 1: JSON nested deeper than 64 levels");
  check_refused([&] { read(folder.write("d.jsonl", "{\"text\": \"\xff\"}")); },
                "d.jsonl line 1: not valid JSON");
}

TEST_CASE("arrays are read record by record, and a broken array is never skipped") {
  const TemporaryFolder folder;
  const auto file = folder.write(
      "a.json", "[\n {\"text\": \"one\"},\n {\"text\": tru},\n {\"text\": \"two\"}\n]");
  check_refused([&] { read(file); }, "a.json line 3: not valid JSON");
  CHECK(read(file, kSkip).texts == std::vector<std::string>{"one", "two"});
  check_refused([&] { read(folder.write("b.json", "[{\"text\": \"one\"}"), kSkip); },
                "b.json line 1: expected a JSON array of records, found the end of the file");
}

TEST_CASE("text files may have another separator, and no records") {
  const TemporaryFolder folder;
  const auto file = folder.write("a.txt", "one\n<|end|>\ntwo <|end|>\n<|end|>\r\nmuch longer\n");
  DocumentOptions options = {.separator = "<|end|>"};
  CHECK(read(file, options).texts == std::vector<std::string>{"one", "two <|end|>", "much longer"});
  options.max_document_bytes = 5;
  check_refused([&] { read(file, options); }, "a.txt: expected documents of at most 5 bytes");
  options.on_bad_record = "skip";
  const Found found = read(file, options);
  CHECK(found.texts == std::vector<std::string>{"one"});
  CHECK(found.counts.too_long == 2);
  check_refused([&] { read(file, {.format = "alpaca"}); },
                "a.txt: expected a file of records (.jsonl, .json, .parquet) for format alpaca");
}

TEST_CASE("a shard knows which tokens count and what was skipped") {
  const TemporaryFolder folder;
  const auto file = folder.write("a.jsonl",
                                 "{\"instruction\":\"I\",\"output\":\"answer\"}\nbroken\n"
                                 "{\"instruction\":\"J\",\"output\":\"\"}\n");
  const DocumentOptions options = {
      .format = "alpaca", .mask_prompt = true, .on_bad_record = "skip"};
  const auto cache = folder / "cache";
  const auto open = [&](const DocumentOptions& given) {
    return open_token_shard({file}, ByteTokenizer(), cache, 2, given);
  };
  const std::string key = open(options).key();
  // The second time from the cache.
  TokenShard shard = open(options);
  CHECK(shard.key() == key);
  CHECK(shard.counts() == CorpusCounts{.documents = 1, .empty = 1, .malformed = 1});
  CHECK(shard.num_counted() == 7);
  DocumentOptions whole = options;
  whole.mask_prompt = false;
  const TokenShard unmasked = open(whole);
  CHECK(unmasked.key() != key);
  CHECK_FALSE(unmasked.is_masked());

  const int64_t tokens = shard.num_tokens() + 1;
  const RowSet rows(std::move(shard), {.seq_len = tokens}, 256, 258);
  const Row row = rows.row(0);
  CHECK(row.tokens.front() == 256);
  CHECK(row.tokens.back() == 257);
  REQUIRE(row.counted.size() == row.tokens.size());
  CHECK(std::ranges::is_sorted(row.counted));
  CHECK(std::ranges::count(row.counted, 1) == 7);
  CHECK(RowSet(open(whole), {.seq_len = tokens}, 256, 258).row(0).counted.empty());
}

TEST_CASE("shards laid end to end are one text") {
  const TemporaryFolder folder;
  std::vector<TokenShard> shards;
  shards.push_back(byte_shard(folder, {"ab", "c"}));
  shards.push_back(byte_shard(folder, {"def"}));
  const RowSet rows(std::move(shards), {.seq_len = 3, .bos = "none", .order = "file"}, 256, 258);
  REQUIRE(rows.size() == 2);
  CHECK(rows.row(0).tokens == std::vector<int64_t>{'a', 'b', 'c'});
  CHECK(rows.row(1).tokens == std::vector<int64_t>{'d', 'e', 'f'});
  CHECK(rows.shard_key() != byte_shard(folder, {"def"}).key());
}

TEST_CASE("the Alpaca and TinyStories samples are read whole") {
  TIGON_SHARED_OR_SKIP(alpaca, "corpus/alpaca_9k.json");
  TIGON_SHARED_OR_SKIP(stories, "corpus/tinystories_sample.txt");
  const Found found = read(alpaca, {.format = "alpaca", .mask_prompt = true});
  CHECK(found.counts.documents + found.counts.empty == 9229);
  CHECK(found.counts.empty < 10);
  const Found told = read(stories, {.separator = "<|endoftext|>"});
  CHECK(told.texts.size() > 2000);
  for (const std::string& text : told.texts) CHECK(text.find("<|endoftext|>") == text.npos);
}
