#include "data/sentencepiece_split.h"

#include <sentencepiece_processor.h>

#include "core/random.h"
#include "data/protobuf_writer.h"
#include "data/sentencepiece_fields.h"
#include "data/tokenizer.h"
#include "io/json_file.h"
#include "support/catch.h"
#include "support/shared_material.h"
#include "support/temporary_folder.h"
#include "support/tiny_tokenizer.h"

using namespace tigon;
using namespace tigon::testing;
namespace fields = tigon::sentencepiece_fields;
using tigon::can_split_at_spaces;
using tigon::first_part;

namespace {

/// Letters, spaces alone and in runs, the space symbol, line ends, NUL, characters nobody knows.
std::string wild_text(int length, uint64_t seed) {
  static const std::vector<std::string> kParts = {
      " ",   " ",  " ",  "  ", "     ", "▁",  "\n", "\t",  std::string(1, '\0'),
      "😀",   "漢", ".",  "ba", "né",    "ti", "lo", "gra", "mu",
      "shi", "ke", "ön", "da", "ru"};
  tigon::Random random(seed);
  std::string text;
  for (int i = 0; i < length; ++i) text += kParts[random.below(kParts.size())];
  return text;
}

/// The ids of one call of the library for the whole text.
std::vector<int32_t> encode_whole(const std::string& model, const std::string& text) {
  sentencepiece::SentencePieceProcessor processor;
  REQUIRE(processor.LoadFromSerializedProto(model).ok());
  std::vector<int> ids;
  REQUIRE(processor.Encode(text, &ids).ok());
  return ids;
}

/// A model with all that splitting asks for, and then `more` fields.
std::string splittable_model(const std::string& more) {
  return bytes_field(fields::kModelPieces, bytes_field(fields::kPieceText, "▁")) +
         bytes_field(fields::kModelTrainer,
                     varint_field(fields::kTrainerModelType, fields::kBytePairModel)) +
         bytes_field(fields::kModelNormalizer, varint_field(fields::kNormalizerJoinsSpaces, 0)) +
         more;
}

}  // namespace

TEST_CASE("a long text has the ids of a single call of the library") {
  const TemporaryFolder folder;
  for (const std::string type : {"bpe", "unigram"}) {
    for (const std::string normalization : {"identity", "nmt_nfkc"}) {
      for (const bool byte_fallback : {true, false}) {
        const std::string model = train_tiny_tokenizer(
            {.model_type = type, .normalization = normalization, .byte_fallback = byte_fallback});
        const auto tokenizer = tigon::load_tokenizer(folder.write("a.model", model));
        for (uint64_t seed = 0; seed < 4; ++seed) {
          const std::string text = wild_text(10000, seed);
          CHECK(tokenizer->encode(text) == encode_whole(model, text));
        }
        const std::string words = tiny_text(5000, 1), one_word(50000, 'x'), spaces(50000, ' ');
        for (const std::string& text : {words, one_word, spaces, one_word + spaces + words}) {
          CHECK(tokenizer->encode(text) == encode_whole(model, text));
        }
      }
    }
  }
}

TEST_CASE("a part ends at a space that stands alone") {
  CHECK(first_part("", 0) == 0);
  CHECK(first_part("abc", 0) == 3);
  CHECK(first_part("a b c", 0) == 1);
  CHECK(first_part("a b c", 2) == 3);
  CHECK(first_part("a b c", 4) == 5);
  CHECK(first_part("a b c", 100) == 5);
  // A run of spaces stays in one part, and so do the spaces at both ends.
  CHECK(first_part("a  b c", 0) == 4);
  CHECK(first_part(" a b", 0) == 2);
  CHECK(first_part("a ", 0) == 2);
  CHECK(first_part("a▁ b c", 0) == std::string("a▁ b").size());
}

TEST_CASE("models that may be fed in parts are told from others") {
  CHECK(can_split_at_spaces(train_tiny_tokenizer()));
  CHECK_FALSE(can_split_at_spaces(train_tiny_tokenizer({.model_type = "unigram"})));
  CHECK_FALSE(can_split_at_spaces(train_tiny_tokenizer({.normalization = "nmt_nfkc"})));

  const auto piece = [](const std::string& text) {
    return bytes_field(fields::kModelPieces, bytes_field(fields::kPieceText, text));
  };
  const auto normalizer = [](uint32_t field, uint64_t value) {
    return bytes_field(fields::kModelNormalizer, varint_field(field, value));
  };
  for (const std::string& more : {std::string(), piece("▁word"), piece("▁▁▁"), piece("word"),
                                  normalizer(fields::kNormalizerAddsSpace, 1)}) {
    CHECK(can_split_at_spaces(splittable_model(more)));
  }
  for (const std::string& more :
       {piece("a▁"), piece("▁two▁words"), piece("a b"), normalizer(fields::kNormalizerAddsSpace, 0),
        normalizer(fields::kNormalizerEscapesSpaces, 0),
        normalizer(fields::kNormalizerJoinsSpaces, 1),
        bytes_field(fields::kModelTrainer, varint_field(fields::kTrainerSpaceIsSuffix, 1))}) {
    CHECK_FALSE(can_split_at_spaces(splittable_model(more)));
  }
  // Without a piece for the space itself.
  CHECK_FALSE(can_split_at_spaces(splittable_model("").substr(piece("▁").size())));
}

TEST_CASE("public byte-pair models may be fed in parts") {
  TIGON_SHARED_OR_SKIP(text_file, "corpus/input.txt");
  const std::string text = tigon::read_text_file(text_file);
  for (const char* name : {"tokenizers/llama2", "tokenizers/mistral-v1", "models/gutenberg-25m"}) {
    TIGON_SHARED_OR_SKIP(folder, name);
    const std::string model = tigon::read_text_file(folder / "tokenizer.model");
    CHECK(can_split_at_spaces(model));
    CHECK(tigon::load_tokenizer(folder)->encode(text) == encode_whole(model, text));
  }
}
