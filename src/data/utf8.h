// UTF-8 of text that comes from outside.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace tigon {

bool is_valid_utf8(std::string_view text);

/// The text with every invalid stretch as one U+FFFD, where a stretch is the longest run of bytes
/// that could have begun a character (the Unicode standard's "maximal subpart"; Python's
/// errors="replace" does the same).
std::string replace_invalid_utf8(std::string_view text);

// The rest reads text that is known to be valid.

/// How many bytes the first character of non-empty `text` takes.
size_t character_bytes(std::string_view text);
/// Takes the first character off non-empty `text`.
char32_t take_character(std::string_view& text);
/// The last character of non-empty `text`.
char32_t last_character(std::string_view text);
/// Appends a character, U+0000 … U+10FFFF without surrogates.
void append_utf8(char32_t character, std::string& text);

}  // namespace tigon
