#include <algorithm>

#include "bpe/tiny_tokenizer_json.h"
#include "core/random.h"
#include "data/tokenizer.h"
#include "data/utf8.h"
#include "support/catch.h"
#include "support/shared_material.h"
#include "support/temporary_folder.h"
#include "support/tiny_tokenizer.h"

using namespace tigon::testing;
using tigon::load_tokenizer;
using tigon::Random;
using tigon::StreamDecoder;
using tigon::Tokenizer;

namespace {

/// Pushes the ids one by one; every part must be whole characters, all parts the decoded whole.
void check_streamed(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  StreamDecoder decoder(tokenizer);
  std::string text;
  bool is_whole = true;
  for (const int32_t id : ids) {
    const std::string part = decoder.push(id);
    is_whole = is_whole && tigon::is_valid_utf8(part);
    text += part;
  }
  text += decoder.finish();
  CHECK(is_whole);
  CHECK(text == tokenizer.decode(ids));
}

/// Ids at random: byte pieces, control pieces and words in any order.
void check_random_streams(const Tokenizer& tokenizer, int trials) {
  Random random(11);
  for (int trial = 0; trial < trials; ++trial) {
    // Every second stream is rich in byte pieces, which make and break characters.
    const auto all = static_cast<uint64_t>(tokenizer.vocab_size());
    const uint64_t bound = trial % 2 == 0 ? std::min<uint64_t>(262, all) : all;
    std::vector<int32_t> ids(300);
    for (int32_t& id : ids) id = static_cast<int32_t>(random.below(bound));
    check_streamed(tokenizer, ids);
  }
}

}  // namespace

TEST_CASE("streamed text never ends inside a character") {
  const TemporaryFolder folder;
  folder.write("tokenizer.model", train_tiny_tokenizer());
  const auto tokenizer = load_tokenizer(folder.path());
  StreamDecoder decoder(*tokenizer);
  // 😀 is F0 9F 98 80; byte b is piece 3 + b.
  CHECK(decoder.push(3 + 'x') == "x");
  CHECK(decoder.push(3 + 0xF0).empty());
  CHECK(decoder.push(3 + 0x9F).empty());
  CHECK(decoder.push(3 + 0x98).empty());
  CHECK(decoder.push(3 + 0x80) == "😀");
  CHECK(decoder.push(3 + 0xE2).empty());
  CHECK(decoder.finish() == "\xEF\xBF\xBD");
  // After finish() a new text begins.
  CHECK(decoder.push(3 + 'y') == "y");
  CHECK(decoder.finish().empty());
}

TEST_CASE("streamed parts make up the decoded text") {
  const TemporaryFolder folder;
  for (const std::string normalization : {"identity", "nmt_nfkc"}) {
    const auto file =
        folder.write("a.model", train_tiny_tokenizer({.normalization = normalization}));
    const auto tokenizer = load_tokenizer(file);
    check_streamed(*tokenizer, tokenizer->encode(tiny_text(500, 3) + " 😀漢字 é"));
    check_random_streams(*tokenizer, 40);
    // Nothing but control pieces, longer than the context that is kept.
    check_streamed(*tokenizer, std::vector<int32_t>(200, 1));
  }
}

TEST_CASE("streamed parts make up the decoded text of public tokenizers") {
  TIGON_SHARED_OR_SKIP(tokenizers, "tokenizers");
  for (const char* name : {"llama2", "mistral-v1"}) {
    check_random_streams(*load_tokenizer(tokenizers / name), 20);
  }
}

TEST_CASE("streamed text of byte-pair tokenizers never ends inside a character") {
  const TemporaryFolder folder;
  const std::string text = " the 😀 ll 👩‍👩‍👧 漢字 a\xEF\xBF\xBD";
  for (const tigon::Json& json : {tiny_tokenizer_json(), tiny_sentencepiece_json()}) {
    const auto tokenizer = load_tokenizer(folder.write("tokenizer.json", json.dump()));
    const std::vector<int32_t> ids = tokenizer->encode(text);
    CHECK(ids.size() > text.size() / 2);
    CHECK(tokenizer->decode(ids) == text);
    check_streamed(*tokenizer, ids);
    check_random_streams(*tokenizer, 40);
  }
  // 😀 is F0 9F 98 80, a token each.
  const auto tokenizer =
      load_tokenizer(folder.write("tokenizer.json", tiny_tokenizer_json().dump()));
  StreamDecoder decoder(*tokenizer);
  for (const int32_t byte : {0xF0, 0x9F, 0x98}) CHECK(decoder.push(byte).empty());
  CHECK(decoder.push(0x80) == "😀");
  CHECK(decoder.push(0xFF).empty());
  CHECK(decoder.push('x') == "\xEF\xBF\xBDx");
}
