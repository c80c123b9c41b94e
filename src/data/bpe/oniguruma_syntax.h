// Patterns of tokenizer files are written for the regular expressions of Oniguruma (Ruby's syntax).
// PCRE2 spells some things differently, and gives some a different meaning.
#pragma once
#include <string>
#include <string_view>

namespace tigon {

/// The PCRE2 pattern (for UTF and UCP) that matches what `pattern` matches in Oniguruma: \s is the
/// Unicode white space, \w and \b go by Unicode's word characters, \h is a hexadecimal digit, \v is
/// one character, ^ and $ stand at lines, {n,m}+ is not possessive, \p{Han} goes by the script.
/// What has no equal here (backreferences, named groups, set operations in brackets, …) throws
/// Error; `name` stands before its message.
std::string pcre2_of_oniguruma(std::string_view pattern, const std::string& name);

}  // namespace tigon
