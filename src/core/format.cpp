#include "core/format.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace tigon {

namespace {

bool starts_character(char byte) {
  return (static_cast<unsigned char>(byte) & 0xc0) != 0x80;
}

/// 1234567 → "1,234,567".
std::string grouped(double whole) {
  const std::string digits = fmt::format("{:.0f}", std::abs(whole));
  std::string text = whole < 0 ? "-" : "";
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

}  // namespace

std::string format_bytes(double bytes) {
  constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  size_t unit = 0;
  // 1023.95 would be printed as 1024.0.
  while (bytes >= (unit == 0 ? 1024 : 1023.95) && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", bytes, unit == 0 ? 0 : 1, kUnits[unit]);
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  if (seconds < 0.995) return fmt::format("{:.2f} s", seconds);
  if (seconds < 9.95) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<long long>(std::llround(seconds));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

std::string format_count(double count) {
  const double size = std::abs(count);
  // Each bound is where rounding to one decimal reaches the next unit.
  if (size >= 999.95e9) return fmt::format("{:.1f} T", count / 1e12);
  if (size >= 999.95e6) return fmt::format("{:.1f} G", count / 1e9);
  if (size >= 999999.5) return fmt::format("{:.1f} M", count / 1e6);
  const bool is_whole = count == std::floor(count);
  if (size < 100 && !is_whole) return fmt::format("{:.1f}", count);
  return grouped(std::round(count));
}

size_t display_width(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), starts_character));
}

std::string cut_to_width(std::string_view text, size_t columns) {
  size_t end = 0;
  for (size_t width = 0; end < text.size(); ++end) {
    if (starts_character(text[end]) && width++ == columns) break;
  }
  return std::string(text.substr(0, end));
}

}  // namespace tigon
