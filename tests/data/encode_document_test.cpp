#include "data/encode_document.h"

#include <algorithm>

#include "data/byte_tokenizer.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"
#include "support/tiny_tokenizer.h"

using namespace tigon;
using namespace tigon::testing;
using Kind = TextPiece::Kind;

TEST_CASE("special tokens are one id, and counted flags follow the pieces") {
  const Document document{{{Kind::kText, "ab", false},
                           {Kind::kText, "c", true},
                           {Kind::kEndOfSequence, "", true},
                           {Kind::kText, "d", false}}};
  const EncodedDocument encoded = encode_document(document, ByteTokenizer());
  CHECK(encoded.ids == std::vector<int32_t>{'a', 'b', 'c', 257, 'd'});
  CHECK(encoded.counted == std::vector<uint8_t>{0, 0, 1, 1, 0});
  CHECK(encoded.text_bytes == 4);
  CHECK(encode_document(Document::of_text("ab"), ByteTokenizer()).counted.empty());
  check_refused(
      [&] {
        encode_document({{{Kind::kSpecialToken, "<|im_end|>"}}}, ByteTokenizer());
      },
      "expected a tokenizer with the special token <|im_end|>, found none");
}

TEST_CASE("a text is tokenized as a whole, whatever is masked in it") {
  const TemporaryFolder folder;
  const auto tokenizer = load_tokenizer(folder.write("a.model", train_tiny_tokenizer()));
  const std::string text = tiny_text(40, 9);
  for (size_t cut = 1; cut < 60; ++cut) {
    const Document document{
        {{Kind::kText, text.substr(0, cut), false}, {Kind::kText, text.substr(cut), true}}};
    const EncodedDocument encoded = encode_document(document, *tokenizer);
    CHECK(encoded.ids == tokenizer->encode(text));
    CHECK(std::ranges::is_sorted(encoded.counted));
    // The first words are many tokens: something is masked.
    if (cut > 20) REQUIRE(encoded.counted.size() == encoded.ids.size());
    // What is masked is the prompt's own; a token across the border counts.
    const auto masked = std::ranges::count(encoded.counted, 0);
    const std::vector<int32_t> ids(encoded.ids.begin(), encoded.ids.begin() + masked);
    CHECK(text.substr(0, cut).starts_with(tokenizer->decode(ids)));
  }
  CHECK(tokenizer->special_id("</s>") == tokenizer->eos_id());
  CHECK(!tokenizer->special_id("<|im_end|>"));
  CHECK(!tokenizer->special_id("<unk>"));
}
