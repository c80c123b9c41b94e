#include "data/utf8.h"

namespace tigon {
namespace {

struct Character {
  size_t bytes;  // how many bytes it takes, or an invalid stretch takes; at least 1
  bool is_valid;
};

/// The character, or the invalid stretch, that non-empty `text` begins with.
Character first_character(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {1, true};
  // C0, C1 and F5 … FF begin no character.
  if (lead < 0xC2 || lead > 0xF4) return {1, false};
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range shuts out overlong forms, surrogates and values above U+10FFFF.
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {i, false};
    const bool is_good = i == 1 ? byte(1) >= low && byte(1) <= high : (byte(i) & 0xC0) == 0x80;
    if (!is_good) return {i, false};
  }
  return {length, true};
}

/// How many bytes of `text` come before its first invalid stretch.
size_t valid_prefix(std::string_view text) {
  size_t position = 0;
  while (position < text.size()) {
    const Character character = first_character(text.substr(position));
    if (!character.is_valid) break;
    position += character.bytes;
  }
  return position;
}

}  // namespace

bool is_valid_utf8(std::string_view text) {
  return valid_prefix(text) == text.size();
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (true) {
    const size_t valid = valid_prefix(text);
    result.append(text.substr(0, valid));
    text.remove_prefix(valid);
    if (text.empty()) return result;
    result.append("\xEF\xBF\xBD");
    text.remove_prefix(first_character(text).bytes);
  }
}

size_t character_bytes(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

char32_t take_character(std::string_view& text) {
  const size_t bytes = character_bytes(text);
  // A lead byte of n > 1 bytes begins with n ones and a zero.
  char32_t character = static_cast<unsigned char>(text[0]) & (bytes == 1 ? 0x7F : 0x7F >> bytes);
  for (size_t i = 1; i < bytes; ++i) character = character << 6 | (text[i] & 0x3F);
  text.remove_prefix(bytes);
  return character;
}

char32_t last_character(std::string_view text) {
  size_t begin = text.size() - 1;
  while ((text[begin] & 0xC0) == 0x80) --begin;
  text.remove_prefix(begin);
  return take_character(text);
}

void append_utf8(char32_t character, std::string& text) {
  const auto append = [&](char32_t byte) { text += static_cast<char>(byte); };
  if (character < 0x80) return append(character);
  if (character < 0x800) {
    append(0xC0 | character >> 6);
  } else if (character < 0x10000) {
    append(0xE0 | character >> 12);
    append(0x80 | (character >> 6 & 0x3F));
  } else {
    append(0xF0 | character >> 18);
    append(0x80 | (character >> 12 & 0x3F));
    append(0x80 | (character >> 6 & 0x3F));
  }
  append(0x80 | (character & 0x3F));
}

}  // namespace tigon
