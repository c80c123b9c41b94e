#include "core/config_scalar.h"

#include <cctype>
#include <charconv>
#include <cmath>

namespace tigon {

namespace {

/// Digits with single underscores between them, without the underscores.
std::optional<std::string> plain_digits(std::string_view text) {
  std::string digits;
  bool may_separate = false;
  for (const char letter : text) {
    if (letter == '_' && may_separate) {
      may_separate = false;
    } else if (std::isdigit(static_cast<unsigned char>(letter)) != 0) {
      digits += letter;
      may_separate = true;
    } else {
      return std::nullopt;
    }
  }
  if (!may_separate) return std::nullopt;
  return digits;
}

}  // namespace

std::optional<int64_t> parse_integer(std::string_view text) {
  std::string sign;
  if (!text.empty() && (text.front() == '-' || text.front() == '+')) {
    if (text.front() == '-') sign = "-";
    text.remove_prefix(1);
  }
  int64_t scale = 1;
  if (!text.empty() && (text.back() == 'K' || text.back() == 'M')) {
    scale = text.back() == 'K' ? 1000 : 1000 * 1000;
    text.remove_suffix(1);
  }
  const std::optional<std::string> digits = plain_digits(text);
  if (!digits) return std::nullopt;
  const std::string spelled = sign + *digits;
  int64_t value = 0;
  const char* const end = spelled.data() + spelled.size();
  const auto [stop, code] = std::from_chars(spelled.data(), end, value);
  if (code != std::errc() || stop != end) return std::nullopt;
  if (__builtin_mul_overflow(value, scale, &value)) return std::nullopt;
  return value;
}

std::optional<double> parse_number(std::string_view text) {
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  double value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, code] = std::from_chars(text.data(), end, value);
  if (code != std::errc() || stop != end || !std::isfinite(value)) return std::nullopt;
  return value;
}

bool is_in(const Range& range, double value) {
  return (range.low_is_excluded ? value > range.low : value >= range.low) && value <= range.high;
}

double some_value_in(const Range& range) {
  if (is_in(range, 0)) return 0;
  if (!std::isfinite(range.low)) return range.high;
  if (!range.low_is_excluded) return range.low;
  return std::isfinite(range.high) ? range.low + (range.high - range.low) / 2 : range.low + 1;
}

std::string describe(const std::string& what, const Range& range) {
  const bool has_low = std::isfinite(range.low);
  const bool has_high = std::isfinite(range.high);
  if (has_low && has_high && !range.low_is_excluded) {
    return fmt::format("{} from {} to {}", what, range.low, range.high);
  }
  std::string text = what;
  if (has_low) text += fmt::format(" {} {}", range.low_is_excluded ? ">" : "≥", range.low);
  if (has_high) text += fmt::format("{} ≤ {}", has_low ? " and" : "", range.high);
  return text;
}

}  // namespace tigon
