#include "data/bpe/bpe_model.h"

#include <chrono>

#include "data/bpe/byte_characters.h"
#include "data/bpe/model_building.h"
#include "support/catch.h"
#include "support/refusal.h"

using namespace tigon;
using Ids = std::vector<int32_t>;

namespace {

Ids encode(const BpeModel& model, std::string_view piece) {
  BpeScratch scratch;
  Ids ids;
  model.encode(piece, scratch, ids);
  Ids again;
  // The second time it comes from the cache, if it is short.
  model.encode(piece, scratch, again);
  CHECK(again == ids);
  return ids;
}

std::unique_ptr<BpeModel> build(const BpeOptions& options,
                                std::optional<std::string> unknown = {}) {
  std::vector<std::optional<std::string>> tokens;
  return build_bpe_model({.source_name = "test",
                          .vocabulary = {{"<unk>", 0},
                                         {"a", 1},
                                         {"b", 2},
                                         {"ab", 3},
                                         {"aa", 4},
                                         {"aaa", 5},
                                         {"abb", 6},
                                         {"<0xC3>", 7},
                                         {"<0xA9>", 8}},
                          .merges = {{"a", "b"}, {"a", "a"}, {"aa", "a"}},
                          .options = options,
                          .unknown = std::move(unknown)},
                         tokens);
}

}  // namespace

TEST_CASE("symbols join by rank, from the left") {
  const auto model = build({});
  CHECK(encode(*model, "aab") == Ids{1, 3});
  CHECK(encode(*model, "aaaaa") == Ids{4, 5});
  CHECK(encode(*model, "aaab") == Ids{4, 3});
  CHECK(encode(*model, "abb") == Ids{3, 2});
  CHECK(encode(*build({.takes_whole_pieces = true}), "abb") == Ids{6});
}

TEST_CASE("unknown characters") {
  const BpeOptions characters{.is_byte_level = false};
  CHECK(encode(*build(characters), "a?b") == Ids{3});
  CHECK(encode(*build(characters, "<unk>"), "?xab") == Ids{0, 0, 3});
  CHECK(encode(*build({.is_byte_level = false, .joins_unknown = true}, "<unk>"), "?xab") ==
        Ids{0, 3});
  const BpeOptions fallback{.is_byte_level = false, .has_byte_fallback = true};
  CHECK(encode(*build(fallback, "<unk>"), "aé") == Ids{1, 7, 8});
  CHECK(encode(*build(fallback, "<unk>"), "è") == Ids{0});
  tigon::testing::check_refused([&] { build(characters, "[UNK]"); }, "unk_token: expected a token");
}

TEST_CASE("a million equal characters take no quadratic time") {
  Vocabulary vocabulary;
  MergeTable merges;
  std::string piece = "a";
  for (int32_t id = 0; id < 8; ++id, piece += piece) {
    vocabulary.add(piece, id);
    merges.add(id, id, {id, id + 1});
  }
  vocabulary.add(piece, 8);
  const std::string text(1'000'000, 'a');
  for (const bool by_id : {false, true}) {
    const BpeModel model(vocabulary, merges, {.merges_by_id = by_id});
    const auto start = std::chrono::steady_clock::now();
    BpeScratch scratch;
    Ids ids;
    model.encode(text, scratch, ids);
    // 3,906 of 256 characters, and 64 that are left.
    CHECK(ids.size() == 3907);
    // Under a second; a quadratic way would take many minutes.
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(30));
  }
}

TEST_CASE("bytes are written as GPT-2's characters") {
  CHECK(characters_of_bytes(" a\n\xFF") == "ĠaĊÿ");
  CHECK(bytes_of_characters("ĠaĊÿ") == " a\n\xFF");
  CHECK_FALSE(bytes_of_characters("漢").has_value());
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text(1, static_cast<char>(byte));
    CHECK(bytes_of_characters(characters_of_bytes(text)) == text);
  }
}

TEST_CASE("a vocabulary grows and keeps what it has") {
  Vocabulary vocabulary;
  for (int32_t id = 0; id < 5000; ++id) CHECK(vocabulary.add(std::to_string(id), id));
  CHECK_FALSE(vocabulary.add("17", 9));
  CHECK(vocabulary.find("17") == 17);
  CHECK(vocabulary.find("4999") == 4999);
  CHECK(vocabulary.find("5000") == kNoToken);
  CHECK(vocabulary.find("") == kNoToken);
  CHECK(vocabulary.size() == 5000);
}
