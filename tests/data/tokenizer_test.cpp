#include "data/tokenizer.h"

#include <fstream>

#include "core/error.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/shared_material.h"
#include "support/temporary_folder.h"
#include "support/tiny_tokenizer.h"

using namespace std::string_literals;
using namespace tigon::testing;
using tigon::load_tokenizer;

namespace {

constexpr const char* kReplacement = "\xEF\xBF\xBD";

}  // namespace

TEST_CASE("a tokenizer encodes text and decodes it again") {
  const TemporaryFolder folder;
  const auto file = folder.write("tokenizer.model", train_tiny_tokenizer());
  const auto tokenizer = load_tokenizer(folder.path());
  // The vocabulary: 3 control pieces, 256 bytes, letters and merges.
  CHECK(tokenizer->vocab_size() == 400);
  CHECK(tokenizer->bos_id() == 1);
  CHECK(tokenizer->eos_id() == 2);
  CHECK(tokenizer->files() == std::vector{file});
  for (const std::string& text : {""s, "bane tilo"s, "two\n\nlines\r\n\ttab"s, "unseen: 😀漢字"s,
                                  "a\0b"s, tiny_text(200, 5), "<s> is text</s>"s, "  and "s}) {
    const auto ids = tokenizer->encode(text);
    for (const int32_t id : ids) CHECK((id > 2 && id < 400));
    CHECK(tokenizer->decode(ids) == text);
  }
  // Known words take few ids, unknown characters a byte piece a byte.
  CHECK(tokenizer->encode("bane tilo").size() <= 4);
  CHECK(tokenizer->encode("😀").size() == 5);
}

TEST_CASE("invalid UTF-8 is replaced before it is tokenized") {
  const TemporaryFolder folder;
  folder.write("tokenizer.model", train_tiny_tokenizer());
  const auto tokenizer = load_tokenizer(folder.path());
  const std::string written = "ba\xE2\x80 ne\xFF",
                    replaced = "ba"s + kReplacement + " ne" + kReplacement;
  CHECK(tokenizer->encode(written) == tokenizer->encode(replaced));
  CHECK(tokenizer->decode(tokenizer->encode(written)) == replaced);
}

TEST_CASE("byte pieces decode to characters") {
  const TemporaryFolder folder;
  folder.write("tokenizer.model", train_tiny_tokenizer());
  const auto tokenizer = load_tokenizer(folder.path());
  // Byte b is piece 3 + b.
  CHECK(tokenizer->decode(std::vector<int32_t>{3 + 0xE2, 3 + 0x80, 3 + 0x93}) == "–");
  CHECK(tokenizer->decode(std::vector<int32_t>{3 + 0xE2}) == kReplacement);
  // BOS and EOS have no text.
  CHECK(tokenizer->decode(std::vector<int32_t>{1, 3 + 'x', 2}) == "x");
  CHECK(tokenizer->decode(std::vector<int32_t>{}).empty());
}

TEST_CASE("ids outside the vocabulary are refused") {
  const TemporaryFolder folder;
  folder.write("tokenizer.model", train_tiny_tokenizer());
  const auto tokenizer = load_tokenizer(folder.path());
  for (const int32_t id : {-1, 400, 1 << 30}) {
    check_refused(
        [&] {
          tokenizer->decode(std::vector<int32_t>{5, id});
        },
        "tokenizer.model: expected ids from 0 to 399, found " + std::to_string(id));
  }
}

TEST_CASE("a tokenizer without BOS says so") {
  const TemporaryFolder folder;
  const auto file = folder.write("a.model", train_tiny_tokenizer({.has_bos = false}));
  CHECK_FALSE(load_tokenizer(file)->bos_id().has_value());
  CHECK(load_tokenizer(file)->eos_id().has_value());
}

TEST_CASE("every kind of sentencepiece model is read") {
  const TemporaryFolder folder;
  for (const std::string type : {"bpe", "unigram", "char", "word"}) {
    const bool is_subword = type == "bpe" || type == "unigram";
    const auto file = folder.write(
        "a.model", train_tiny_tokenizer({.model_type = type, .byte_fallback = is_subword}));
    const auto tokenizer = load_tokenizer(file);
    const auto ids = tokenizer->encode("bane tilo gra");
    CHECK_FALSE(ids.empty());
    if (type != "word") CHECK(tokenizer->decode(ids) == "bane tilo gra");
  }
}

TEST_CASE("a fingerprint follows the content of the tokenizer") {
  const TemporaryFolder folder;
  const auto first = folder.write("first.model", train_tiny_tokenizer());
  const auto same = folder.write("same.model", train_tiny_tokenizer());
  const auto other = folder.write("other.model", train_tiny_tokenizer({.vocab_size = 390}));
  CHECK(load_tokenizer(first)->fingerprint() == load_tokenizer(same)->fingerprint());
  CHECK(load_tokenizer(first)->fingerprint() != load_tokenizer(other)->fingerprint());
}

TEST_CASE("a folder's companion files go with its tokenizer") {
  const TemporaryFolder folder;
  const auto model = folder.write("tokenizer.model", train_tiny_tokenizer());
  const auto config = folder.write("tokenizer_config.json", "{}");
  const auto fast = folder.write("tokenizer.json", "{}");
  folder.write("config.json", "{}");
  CHECK(load_tokenizer(folder.path())->files() == std::vector{model, config, fast});
  CHECK(load_tokenizer(model)->files() == std::vector{model});
}

TEST_CASE("a file that is no tokenizer is refused") {
  const TemporaryFolder folder;
  check_refused([&] { load_tokenizer(folder.write("a.model", "")); },
                "a.model: expected a sentencepiece model, found no pieces");
  check_refused([&] { load_tokenizer(folder.write("a.model", "some text")); },
                "a.model: expected a sentencepiece model, found malformed");
  const std::string model = train_tiny_tokenizer();
  check_refused([&] { load_tokenizer(folder.write("a.model", model.substr(0, 1000))); },
                "a.model: expected a sentencepiece model, found malformed");
}

TEST_CASE("a model that sentencepiece itself refuses is an error") {
  const TemporaryFolder folder;
  // Every piece twice: sound as a message, but no vocabulary.
  const std::string model = train_tiny_tokenizer();
  check_refused([&] { load_tokenizer(folder.write("a.model", model + model)); },
                "a.model: sentencepiece refuses the model:");
}
