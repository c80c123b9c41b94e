#include "data/bpe/byte_characters.h"

#include <array>
#include <cstdint>

#include "data/utf8.h"

namespace tigon {
namespace {

constexpr int kNumCharacters = 0x144;

bool is_printed_as_itself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct ByteCharacters {
  std::array<char32_t, 256> character_of_byte{};
  std::array<int, kNumCharacters> byte_of_character{};  // −1: none

  ByteCharacters() {
    byte_of_character.fill(-1);
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      character_of_byte[byte] = is_printed_as_itself(byte) ? static_cast<char32_t>(byte) : next++;
      byte_of_character[character_of_byte[byte]] = byte;
    }
  }
};

const ByteCharacters& table() {
  static const ByteCharacters characters;
  return characters;
}

}  // namespace

std::string characters_of_bytes(std::string_view bytes) {
  std::string characters;
  for (const unsigned char byte : bytes) {
    append_utf8(table().character_of_byte[byte], characters);
  }
  return characters;
}

std::optional<std::string> bytes_of_characters(std::string_view characters) {
  std::string bytes;
  while (!characters.empty()) {
    const char32_t character = take_character(characters);
    if (character >= kNumCharacters || table().byte_of_character[character] < 0) {
      return std::nullopt;
    }
    bytes += static_cast<char>(table().byte_of_character[character]);
  }
  return bytes;
}

}  // namespace tigon
