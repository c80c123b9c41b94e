// UTF-8 of text that comes from outside.
#pragma once
#include <string>
#include <string_view>

namespace tigon {

bool is_valid_utf8(std::string_view text);

/// The text with every invalid stretch as one U+FFFD, where a stretch is the longest run of bytes
/// that could have begun a character (the Unicode standard's "maximal subpart"; Python's
/// errors="replace" does the same).
std::string replace_invalid_utf8(std::string_view text);

}  // namespace tigon
