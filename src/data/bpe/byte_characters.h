// GPT-2's way of writing any byte as a printable character, as vocab.json, merges.txt and
// tokenizer.json do: printable Latin-1 bytes as themselves, the 68 others as U+0100 … U+0143.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace tigon {

/// The characters (UTF-8) that stand for these bytes.
std::string characters_of_bytes(std::string_view bytes);
/// The bytes that these characters (valid UTF-8) stand for; nothing if one stands for no byte.
std::optional<std::string> bytes_of_characters(std::string_view characters);

}  // namespace tigon
