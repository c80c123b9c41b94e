#include "data/bpe/tokenizer_json.h"

#include <future>

#include "core/error.h"
#include "data/tokenizer.h"
#include "data/utf8.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"
#include "tiny_tokenizer_json.h"

using namespace tigon::testing;
using tigon::Json;
using tigon::load_tokenizer;
using Ids = std::vector<int32_t>;

namespace {

std::unique_ptr<tigon::Tokenizer> load(const TemporaryFolder& folder, const Json& json) {
  folder.write("tokenizer.json", json.dump());
  return load_tokenizer(folder.path());
}

void check_json_refused(Json json, const char* pointer, const Json& value,
                        const std::string& message) {
  const TemporaryFolder folder;
  json[Json::json_pointer(pointer)] = value;
  check_refused<tigon::Error>([&] { load(folder, json); }, message);
}

}  // namespace

TEST_CASE("a byte-level tokenizer.json encodes and decodes") {
  const TemporaryFolder folder;
  const auto tokenizer = load(folder, tiny_tokenizer_json());
  CHECK(tokenizer->encode("x the llx") == Ids{'x', 257, 'e', ' ', 258, 'x'});
  CHECK(tokenizer->encode("a<|end|>") == Ids{'a', 259});
  CHECK(tokenizer->encode("").empty());
  CHECK(tokenizer->decode(Ids{'x', 257, 'e', 259}) == "x the");
  CHECK(tokenizer->decode(Ids{0xE2, 0x80}) == "\xEF\xBF\xBD");
  CHECK(tokenizer->vocab_size() == 260);
  CHECK_FALSE(tokenizer->bos_id().has_value());
  CHECK_FALSE(tokenizer->adds_bos());
  REQUIRE(tokenizer->special_tokens().size() == 1);
  CHECK(tokenizer->special_tokens()[0].content == "<|end|>");
  check_refused([&] { tokenizer->decode(Ids{260}); }, "expected ids from 0 to 259, found 260");
  // Invalid UTF-8 is replaced first.
  CHECK(tokenizer->decode(tokenizer->encode("a\xE2\x80z")) == "a\xEF\xBF\xBDz");
}

TEST_CASE(
    "a sentencepiece-style tokenizer.json falls back to bytes and names BOS by its template") {
  const TemporaryFolder folder;
  const auto tokenizer = load(folder, tiny_sentencepiece_json());
  CHECK(tokenizer->encode("a  aé") == Ids{261, 259, 261, 3 + 0xC3, 3 + 0xA9});
  CHECK(tokenizer->decode(tokenizer->encode("a  aé")) == "a  aé");
  CHECK(tokenizer->bos_id() == 1);
  CHECK(tokenizer->adds_bos());
  // A run of byte tokens counts only as a whole.
  CHECK(tokenizer->decode(Ids{3 + 'x', 3 + 0xC3}) == "\xEF\xBF\xBD\xEF\xBF\xBD");
  CHECK(tokenizer->may_change_earlier_text(3));
  CHECK_FALSE(tokenizer->may_change_earlier_text(260));
}

TEST_CASE("files beside a tokenizer.json add tokens and name BOS and EOS") {
  const TemporaryFolder folder;
  const auto config = folder.write("tokenizer_config.json", R"({
    "bos_token": null, "eos_token": {"content": "<|end|>"},
    "added_tokens_decoder": {"300": {"content": "<new>", "special": true, "normalized": false}}})");
  folder.write("config.json", R"({"bos_token_id": 5, "eos_token_id": [6, 7]})");
  const auto tokenizer = load(folder, tiny_tokenizer_json());
  CHECK_FALSE(tokenizer->bos_id().has_value());
  CHECK(tokenizer->eos_id() == 259);
  CHECK(tokenizer->encode("<new>") == Ids{300});
  check_refused([&] { tokenizer->decode(Ids{299}); }, "id 299 has no token");
  CHECK(tokenizer->files() == std::vector{folder / "tokenizer.json", config});
  // The file alone knows nothing of them.
  CHECK(load_tokenizer(folder / "tokenizer.json")->encode("<new>").size() == 5);
}

TEST_CASE("what a tokenizer.json asks and tigon does not know is refused by name") {
  const Json good = tiny_tokenizer_json();
  check_json_refused(good, "/model/type", "Unigram", "expected BPE (tigon has no Unigram");
  check_json_refused(good, "/model/type", "WordPiece", "found WordPiece");
  check_json_refused(good, "/model/dropout", 0.1, "model.dropout: expected none");
  check_json_refused(good, "/model/end_of_word_suffix", "</w>", "expected none, found </w>");
  check_json_refused(good, "/model/novelty", 1, "model.novelty: a key that tigon does not know");
  check_json_refused(good, "/normalizer", {{"type", "Nmt"}},
                     "normalizer.type: expected one of NFC");
  check_json_refused(good, "/pre_tokenizer/type", "BertPreTokenizer", "found BertPreTokenizer");
  check_json_refused(good, "/pre_tokenizer/colour", "red", "pre_tokenizer.colour: a key");
  check_json_refused(good, "/decoder/type", "CTC", "decoder.type: expected one of ByteLevel");
  check_json_refused(good, "/post_processor", {{"type", "BertProcessing"}}, "found BertProcessing");
  check_json_refused(good, "/version", "2.0", "version: expected 1.0, found 2.0");
  check_json_refused(
      good, "/pre_tokenizer",
      {{"type", "Split"}, {"pattern", {{"Regex", "(?<n>a)"}}}, {"behavior", "Isolated"}},
      "expected an expression that tigon knows, found (?<n");
}

TEST_CASE("broken tokenizer.json files are refused") {
  const Json good = tiny_tokenizer_json();
  check_json_refused(good, "/model/vocab/new", -1, "expected an id from 0 to 4194303");
  check_json_refused(good, "/model/vocab/new", 1 << 30, "for \"new\", found 1073741824");
  check_json_refused(good, "/model/vocab/new", "x", "for \"new\", found \"x\"");
  check_json_refused(good, "/model/vocab/new", Json::object(), "found an object");
  check_json_refused(good, "/model/vocab/new", 65, "expected one token an id");
  check_json_refused(good, "/model/merges/0", "Ġ  t", "merge 1: expected two pieces");
  check_json_refused(good, "/model/merges/0", Json::array({"a"}), "merge 1: expected two texts");
  check_json_refused(good, "/model/merges/0", Json::array({"a", "b"}),
                     "\"ab\" is not in the vocab");
  check_json_refused(good, "/added_tokens/0/id", 65, "expected an id of its own, found 65");
  check_json_refused(good, "/added_tokens/0/id", -1, "expected an integer from 0");
  check_json_refused(good, "/added_tokens/0/content", std::string(5000, 'x'),
                     "expected added tokens of at most 4096 bytes, found 5000");
  check_json_refused(
      good, "/pre_tokenizer",
      {{"type", "Sequence"}, {"pretokenizers", Json(200, Json{{"type", "WhitespaceSplit"}})}},
      "expected at most 100 steps");
  const TemporaryFolder folder;
  const auto refuse_text = [&](const std::string& text, const std::string& message) {
    folder.write("tokenizer.json", text);
    check_refused<tigon::Error>([&] { load_tokenizer(folder.path()); }, message);
  };
  refuse_text("{\"model\": ", "tokenizer.json: not valid JSON");
  refuse_text("[]", "expected a JSON object");
  refuse_text(R"({"model": {"type": "BPE", "vocab": {}}})", "model.vocab: expected an object");
  refuse_text(R"({"model": {"vocab": {"a": 1, "a": 2}}})", "\"a\" appears twice");
  refuse_text(R"({"a": 1, "a": 2})", "key \"a\" appears twice");
  refuse_text("{\"a\": " + std::string(100000, '['), "nested deeper than 64");
}

TEST_CASE("encoding is the same from several threads at once") {
  const TemporaryFolder folder;
  const auto tokenizer = load(folder, tiny_tokenizer_json());
  std::string text;
  for (int i = 0; i < 20000; ++i) text += " the" + std::to_string(i) + "ll";
  const Ids expected = tokenizer->encode(text);
  std::vector<std::future<Ids>> results;
  for (int i = 0; i < 4; ++i) {
    results.push_back(std::async(std::launch::async, [&] { return tokenizer->encode(text); }));
  }
  for (auto& result : results) CHECK(result.get() == expected);
}
