#include "data/bpe/normalizer.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/stringpiece.h>
#include <unicode/uchar.h>

#include <algorithm>

#include "core/error.h"
#include "data/utf8.h"

namespace tigon {
namespace {

// Replacements that make a text longer again and again must end somewhere.
constexpr size_t kMaxResultBytes = size_t{1} << 30;

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
}

const icu::Normalizer2* normalizer_of(std::string_view form) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* const normalizer =
      form == "NFC"    ? icu::Normalizer2::getNFCInstance(status)
      : form == "NFD"  ? icu::Normalizer2::getNFDInstance(status)
      : form == "NFKC" ? icu::Normalizer2::getNFKCInstance(status)
                       : icu::Normalizer2::getNFKDInstance(status);
  if (U_FAILURE(status)) {
    fail("ICU: expected its data for {}, found none: {}", form, u_errorName(status));
  }
  return normalizer;
}

}  // namespace

NormalizerStep unicode_form_step(std::string_view form) {
  const icu::Normalizer2* const normalizer = normalizer_of(form);
  return [normalizer](std::string& text) {
    // All forms leave ASCII alone.
    if (is_ascii(text)) return;
    UErrorCode status = U_ZERO_ERROR;
    std::string result;
    result.reserve(text.size());
    icu::StringByteSink<std::string> sink(&result);
    normalizer->normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())),
                              sink, nullptr, status);
    if (U_FAILURE(status)) {
      fail("a text of {} bytes cannot be normalized: {}", text.size(), u_errorName(status));
    }
    text = std::move(result);
  };
}

NormalizerStep prepend_step(std::string prefix) {
  return [prefix = std::move(prefix)](std::string& text) {
    if (!text.empty()) text.insert(0, prefix);
  };
}

NormalizerStep replace_step(Regex regex, std::string content) {
  return [regex = std::move(regex), content = std::move(content)](std::string& text) {
    text = replace_matches(text, regex, content);
  };
}

NormalizerStep lowercase_step() {
  return [](std::string& text) {
    std::string result;
    result.reserve(text.size());
    std::string_view rest = text;
    while (!rest.empty()) {
      const char32_t character = take_character(rest);
      // The only character whose lower case is two.
      if (character == 0x130) {
        result += "i\xCC\x87";
      } else {
        append_utf8(static_cast<char32_t>(u_tolower(static_cast<UChar32>(character))), result);
      }
    }
    text = std::move(result);
  };
}

std::string replace_matches(std::string_view text, const Regex& regex, std::string_view content) {
  std::string result;
  result.reserve(text.size());
  regex.for_each_part(text, [&](size_t begin, size_t end, bool is_match) {
    result.append(is_match ? content : text.substr(begin, end - begin));
    if (result.size() > kMaxResultBytes) {
      fail("replacing makes a text of {} bytes longer than {}", text.size(), kMaxResultBytes);
    }
  });
  return result;
}

}  // namespace tigon
