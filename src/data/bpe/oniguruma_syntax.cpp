#include "data/bpe/oniguruma_syntax.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <utility>
#include <vector>

#include "core/error.h"
#include "data/bpe/unicode_classes.h"
#include "data/utf8.h"

namespace tigon {
namespace {

constexpr std::string_view kWordItems = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
// Outside of brackets, \w also takes superscript and fraction digits of Latin-1.
constexpr std::string_view kLoneWordItems =
    R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE})";
constexpr std::string_view kHexItems = "0-9A-Fa-f";

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& name) : pattern_(pattern), name_(name) {}

  std::string run() {
    while (!at_end()) translate_next();
    if (!groups_.empty()) refuse("a closing )", "the end");
    return std::move(result_);
  }

 private:
  [[noreturn]] void refuse(std::string_view expected, std::string_view found) const {
    fail("{}: expected {}, found {} at byte {}", name_, expected, found, position_);
  }
  [[noreturn]] void refuse_unknown(std::string_view found) const {
    refuse("an expression that tigon knows", found);
  }

  bool at_end() const { return position_ >= pattern_.size(); }
  std::string_view rest() const { return pattern_.substr(position_); }
  char next() const {
    if (at_end()) refuse("more of the pattern", "the end");
    return pattern_[position_];
  }
  bool take(std::string_view text) {
    if (!rest().starts_with(text)) return false;
    position_ += text.size();
    return true;
  }
  void append_atom(std::string_view text) {
    atom_ = result_.size();
    result_ += text;
  }

  void translate_next() {
    const char c = next();
    switch (c) {
      case '\\':
        return translate_escape();
      case '[':
        return translate_class();
      case '(':
        return open_group();
      case ')':
        return close_group();
      case '{':
        return translate_interval();
      case '^':
        ++position_;
        return append_atom("(?m:^)");
      case '$':
        ++position_;
        return append_atom("(?m:$)");
      case '*':
      case '+':
      case '?':
      case '|':
        ++position_;
        result_ += c;
        return;
      case '.':
        ++position_;
        return append_atom(".");
      default:
        return append_atom(take_literal());
    }
  }

  /// One character that stands for itself.
  std::string take_literal() {
    const char c = next();
    const std::string_view text = rest().substr(0, character_bytes(rest()));
    position_ += text.size();
    if (c == ']' || c == '}' || c == '{') return std::string("\\") + c;
    if (c == '\0') return R"(\x{0})";
    return std::string(text);
  }

  void open_group() {
    static constexpr std::array<std::string_view, 8> kOpenings = {
        "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?-i:"};
    const size_t begin = result_.size();
    for (const std::string_view opening : kOpenings) {
      if (!take(opening)) continue;
      result_ += opening;
      groups_.push_back(begin);
      return;
    }
    // Further in, it would hold for other alternatives than in PCRE2.
    if (position_ == 0 && take("(?i)")) {
      result_ += "(?i)";
      return;
    }
    if (rest().starts_with("(?") || rest().starts_with("(*")) refuse_unknown(rest().substr(0, 4));
    // Nothing refers to what a group captured.
    take("(");
    result_ += "(?:";
    groups_.push_back(begin);
  }

  void close_group() {
    if (groups_.empty()) refuse("an opening ( first", ")");
    ++position_;
    result_ += ')';
    atom_ = groups_.back();
    groups_.pop_back();
  }

  /// Digits at the position; nothing if there are none.
  std::string take_digits() {
    std::string digits;
    while (!at_end() && is_digit(next())) digits += pattern_[position_++];
    return digits;
  }

  void translate_interval() {
    const size_t begin = position_;
    ++position_;
    const std::string low = take_digits();
    const bool has_comma = take(",");
    const std::string high = has_comma ? take_digits() : "";
    if ((low.empty() && high.empty()) || !take("}")) {
      // No interval: the brace stands for itself.
      position_ = begin;
      return append_atom(take_literal());
    }
    const std::string interval = (low.empty() ? "0" : low) + (has_comma ? "," + high : "");
    result_ += "{" + interval + "}";
    if (!at_end() && next() == '+') {
      // Repeats the repetition; in PCRE2 it would make it possessive.
      result_.insert(atom_, "(?:");
      result_ += ')';
    } else if (!at_end() && next() == '?' && !has_comma) {
      refuse_unknown("{n}?");
    }
  }

  /// \p{Name}, \P{Name} or \p{^Name} behind the backslash.
  std::string take_property() {
    bool is_negated = next() == 'P';
    ++position_;
    if (!take("{")) refuse(R"(\p{Name})", R"(\p without braces)");
    if (take("^")) is_negated = !is_negated;
    const size_t end = rest().find('}');
    if (end == std::string_view::npos) refuse("a closing }", "the end");
    const std::string name(rest().substr(0, end));
    const std::optional<std::string> property = pcre2_property(name);
    if (!property) refuse_unknown("\\p{" + name + "}");
    position_ += end + 1;
    return fmt::format("\\{}{{{}}}", is_negated ? 'P' : 'p', *property);
  }

  /// \xHH, \x{H…} or \uHHHH behind the backslash.
  std::string take_code_point() {
    const bool is_long = next() == 'u';
    ++position_;
    const bool has_braces = !is_long && take("{");
    const size_t max_digits = has_braces ? 8 : is_long ? 4 : 2;
    std::string digits;
    while (digits.size() < max_digits && !at_end() && std::isxdigit(next()) != 0) {
      digits += pattern_[position_++];
    }
    if (digits.empty() || (is_long && digits.size() != 4) || (has_braces && !take("}"))) {
      refuse("hexadecimal digits of a character", rest().substr(0, 1));
    }
    // Two digits name a byte, which above 7F is no character.
    const bool is_byte = !is_long && !has_braces && std::stoul(digits, nullptr, 16) > 0x7F;
    if (is_byte) refuse_unknown("\\x" + digits);
    return "\\x{" + digits + "}";
  }

  /// Escapes that mean the same inside and outside of brackets; nothing for others, with the
  /// position at the letter.
  std::optional<std::string> take_common_escape() {
    take("\\");
    const char c = next();
    switch (c) {
      case 'p':
      case 'P':
        return take_property();
      case 'x':
      case 'u':
        return take_code_point();
      default:
        break;
    }
    static constexpr std::array<std::pair<char, std::string_view>, 10> kEscapes = {
        {{'s', R"(\p{White_Space})"},
         {'S', R"(\P{White_Space})"},
         {'d', R"(\p{Nd})"},
         {'D', R"(\P{Nd})"},
         {'n', R"(\n)"},
         {'t', R"(\t)"},
         {'r', R"(\r)"},
         {'f', R"(\f)"},
         {'v', R"(\x0B)"},
         {'a', R"(\a)"}}};
    for (const auto& [letter, translation] : kEscapes) {
      if (c != letter) continue;
      ++position_;
      return std::string(translation);
    }
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) return std::nullopt;
    // A character other than a letter or digit stands for itself.
    if (static_cast<unsigned char>(c) >= 0x80) return take_literal();
    ++position_;
    return std::string("\\") + c;
  }

  void translate_escape() {
    if (const auto common = take_common_escape()) return append_atom(*common);
    const char c = next();
    ++position_;
    switch (c) {
      case 'w':
        return append_atom(fmt::format("[{}]", kLoneWordItems));
      case 'W':
        return append_atom(fmt::format("[^{}]", kLoneWordItems));
      case 'h':
        return append_atom(fmt::format("[{}]", kHexItems));
      case 'H':
        return append_atom(fmt::format("[^{}]", kHexItems));
      case 'b':
        return append_atom(
            fmt::format("(?:(?<=[{0}])(?![{0}])|(?<![{0}])(?=[{0}]))", kLoneWordItems));
      case 'B':
        return append_atom(
            fmt::format("(?:(?<=[{0}])(?=[{0}])|(?<![{0}])(?![{0}]))", kLoneWordItems));
      case 'R':
        return append_atom(R"((?>\r\n|[\n-\r\x{85}\x{2028}\x{2029}]))");
      case 'A':
      case 'z':
      case 'Z':
        return append_atom(std::string("\\") + c);
      case 'e':
        return append_atom(R"(\x1B)");
      default:
        --position_;
        refuse_unknown(std::string("\\") + c);
    }
  }

  void translate_class() {
    take("[");
    std::string items = take("^") ? "[^" : "[";
    if (rest().starts_with("]")) refuse("something between [ and ]", "nothing");
    while (!take("]")) {
      if (rest().starts_with("[:")) {
        items += take_posix_class();
      } else if (rest().starts_with("[") || rest().starts_with("&&")) {
        refuse_unknown("a set operation in brackets");
      } else if (next() == '\\') {
        items += take_class_escape();
      } else if (next() == '-' || next() == '^' || next() == '{' || next() == '}') {
        items += next();
        ++position_;
      } else {
        items += take_literal();
      }
    }
    append_atom(items + "]");
  }

  std::string take_class_escape() {
    if (const auto common = take_common_escape()) return *common;
    const char c = next();
    ++position_;
    if (c == 'w') return std::string(kWordItems);
    if (c == 'h') return std::string(kHexItems);
    if (c == 'b') return R"(\x08)";
    if (c == 'e') return R"(\x1B)";
    --position_;
    refuse_unknown(std::string("\\") + c + " in brackets");
  }

  /// [:name:] or [:^name:] in brackets.
  std::string take_posix_class() {
    take("[:");
    const bool is_negated = take("^");
    const size_t end = rest().find(":]");
    if (end == std::string_view::npos) refuse("a closing :]", "the end");
    const std::string name(rest().substr(0, end));
    const std::optional<std::string> property = pcre2_property(name);
    if (!property) refuse_unknown("[:" + name + ":]");
    position_ += end + 2;
    return fmt::format("\\{}{{{}}}", is_negated ? 'P' : 'p', *property);
  }

  std::string_view pattern_;
  const std::string& name_;
  size_t position_ = 0;
  std::string result_;
  size_t atom_ = 0;             // where the last atom begins in result_
  std::vector<size_t> groups_;  // where the open groups begin in result_
};

}  // namespace

std::string pcre2_of_oniguruma(std::string_view pattern, const std::string& name) {
  if (!is_valid_utf8(pattern)) fail("{}: expected UTF-8", name);
  return Translator(pattern, name).run();
}

}  // namespace tigon
