// Regular expressions as tokenizer files write them (Oniguruma's syntax), run by PCRE2 with its
// compiler to machine code.
#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace tigon {

class Regex {
 public:
  /// `source_name` stands before messages. Throws Error naming pattern and place for one that is
  /// malformed, or that has no equal in PCRE2 (see oniguruma_syntax.h).
  Regex(std::string_view pattern, const std::string& source_name);
  /// A pattern that stands for itself.
  static Regex literal(std::string_view text, const std::string& source_name);

  using Visit = std::function<void(size_t begin, size_t end)>;
  /// Calls visit for every match in valid UTF-8, from left to right, none overlapping; an empty
  /// match directly behind another does not count. Safe to call from several threads at once.
  /// Throws Error if the pattern takes too many steps or too much memory on this text.
  void for_each_match(std::string_view text, const Visit& visit) const;
  /// Like for_each_match; also calls visit for the stretches between matches. Together they cover
  /// the text.
  using VisitPart = std::function<void(size_t begin, size_t end, bool is_match)>;
  void for_each_part(std::string_view text, const VisitPart& visit) const;

 private:
  struct Code;
  Regex() = default;
  void compile(std::string_view pattern, bool is_literal);

  std::shared_ptr<const Code> code_;
  std::string name_;  // source and pattern, for messages
};

}  // namespace tigon
