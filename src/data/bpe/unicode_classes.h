// Names of Unicode properties in patterns, and classes of single characters.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace tigon {

/// What PCRE2 calls the property that Oniguruma knows by this name (a general category, a binary
/// property, a POSIX class or a script; case, spaces, '_' and '-' do not count). Nothing for a name
/// that cannot be one; PCRE2 itself refuses unknown scripts.
std::optional<std::string> pcre2_property(std::string_view name);

/// Unicode's white space.
bool is_white_space(char32_t character);
/// What \w means to the tokenizers package where it looks for whole words: alphabetic characters,
/// marks, decimal digits, connectors and joiners.
bool is_word_character(char32_t character);

}  // namespace tigon
