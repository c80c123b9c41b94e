// Normalizers, pre-tokenizers and decoders, step by step.
#include "data/bpe/normalizer.h"
#include "data/bpe/pre_tokenizer.h"
#include "data/bpe/token_decoder.h"
#include "support/catch.h"

using namespace tigon;

namespace {

std::string normalized(const NormalizerStep& step, std::string text) {
  step(text);
  return text;
}

std::string pieces(const SplitStep& step, std::string_view text) {
  PreTokenizer tokenizer;
  tokenizer.add(step);
  std::string shown;
  tokenizer.split(text, true, [&](std::string_view piece, bool) {
    shown += (shown.empty() ? "" : "|") + std::string(piece);
  });
  return shown;
}

std::string decoded(const DecoderStep& step, std::vector<std::string> tokens) {
  TokenDecoder decoder;
  decoder.add(step);
  return decoder.decode(std::move(tokens));
}

}  // namespace

TEST_CASE("normalizer steps") {
  CHECK(normalized(unicode_form_step("NFC"), "e\u0301") == "é");
  CHECK(normalized(unicode_form_step("NFD"), "é") == "e\u0301");
  CHECK(normalized(unicode_form_step("NFKC"), "ﬁ²") == "fi2");
  CHECK(normalized(prepend_step("▁"), "a") == "▁a");
  CHECK(normalized(prepend_step("▁"), "").empty());
  CHECK(normalized(replace_step(Regex("a+", "test"), "$1"), "baab") == "b$1b");
  CHECK(normalized(lowercase_step(), "ÀİΣ") == "ài\u0307σ");
}

TEST_CASE("matches are cut out in every way") {
  const auto split = [](SplitBehavior behavior, bool invert = false) {
    return pieces(pattern_step(Regex::literal("-", "test"), behavior, invert),
                  "The-final--countdown");
  };
  CHECK(split(SplitBehavior::kIsolated) == "The|-|final|-|-|countdown");
  CHECK(split(SplitBehavior::kRemoved) == "The|final|countdown");
  CHECK(split(SplitBehavior::kMergedWithPrevious) == "The-|final-|-|countdown");
  CHECK(split(SplitBehavior::kMergedWithNext) == "The|-final|-|-countdown");
  CHECK(split(SplitBehavior::kContiguous) == "The|-|final|--|countdown");
  CHECK(split(SplitBehavior::kRemoved, true) == "-|-|-");
}

TEST_CASE("metaspace and byte characters") {
  CHECK(pieces(metaspace_step("▁", PrependScheme::kAlways, true), "a  b") == "▁a|▁|▁b");
  CHECK(pieces(metaspace_step("▁", PrependScheme::kNever, true), "a b") == "a|▁b");
  CHECK(pieces(metaspace_step("▁", PrependScheme::kFirst, false), "a b") == "▁a▁b");
  CHECK(pieces(prefix_space_step(), "a") == " a");
  CHECK(pieces(byte_characters_step(), " é") == "ĠÃ©");
  CHECK(pieces(bytes_step(), "ĠÃ©") == " é");
}

TEST_CASE("decoder steps") {
  CHECK(TokenDecoder().decode({"a", "b"}) == "a b");
  CHECK(decoded(byte_level_decoder_step(), {"ĠÃ", "©", "漢"}) == " é漢");
  CHECK(decoded(metaspace_decoder_step("▁", true), {"▁a", "▁b"}) == "a b");
  CHECK(decoded(metaspace_decoder_step("▁", false), {"▁a", "▁b"}) == " a b");
  CHECK(decoded(byte_fallback_decoder_step(), {"<0xC3>", "<0xA9>", "x", "<0xC3>", "<0x41>"}) ==
        "éx\uFFFD\uFFFD");
  CHECK(decoded(byte_fallback_decoder_step(), {"<0xG1>", "<0x-1>"}) == "<0xG1><0x-1>");
  CHECK(decoded(strip_decoder_step(" ", 1, 1), {"  a ", "b"}) == " ab");
}
