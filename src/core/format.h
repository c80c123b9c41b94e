// Numbers and texts as people read them on a terminal.
#pragma once
#include <fmt/format.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace tigon {

/// "1.3 GiB", "512 B".
std::string format_bytes(double bytes);
/// "2 h 05 min", "3 min 20 s", "48 s", "0.42 s".
std::string format_duration(double seconds);
/// "20.6 M", "1,024", "3.2".
std::string format_count(double count);

/// Columns a text takes: characters, not bytes (continuation bytes of UTF-8 take none).
size_t display_width(std::string_view text);
/// At most so many columns of a text, without cutting a character in two.
std::string cut_to_width(std::string_view text, size_t columns);

}  // namespace tigon
