#include "data/bpe/regex.h"

#include <pcre2.h>

#include <array>

#include "core/error.h"
#include "data/bpe/oniguruma_syntax.h"
#include "data/utf8.h"

namespace tigon {
namespace {

// Steps of one match before a pattern counts as hostile: real ones need a few per character, and a
// run of a million spaces is one match.
constexpr uint32_t kMatchLimit = 50'000'000;
constexpr uint32_t kHeapLimitKib = 64 << 10;
constexpr size_t kFirstStackBytes = size_t{32} << 10, kMaxStackBytes = size_t{16} << 20;

/// What matching needs beside the pattern; one a thread serves all patterns.
struct MatchSpace {
  MatchSpace() {
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_set_heap_limit(context, kHeapLimitKib);
    pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~MatchSpace() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
  MatchSpace(const MatchSpace&) = delete;
  MatchSpace& operator=(const MatchSpace&) = delete;

  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(kFirstStackBytes, kMaxStackBytes, nullptr);
};

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

std::string shown(std::string_view pattern) {
  constexpr size_t kShownBytes = 200;
  std::string text(pattern.substr(0, kShownBytes));
  return replace_invalid_utf8(text) + (pattern.size() > kShownBytes ? "…" : "");
}

}  // namespace

struct Regex::Code {
  explicit Code(pcre2_code* compiled) : pcre2(compiled) {}
  ~Code() { pcre2_code_free(pcre2); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;

  pcre2_code* pcre2;
};

Regex::Regex(std::string_view pattern, const std::string& source_name)
    : name_(fmt::format("{}: pattern \"{}\"", source_name, shown(pattern))) {
  compile(pcre2_of_oniguruma(pattern, name_), false);
}

Regex Regex::literal(std::string_view text, const std::string& source_name) {
  Regex regex;
  regex.name_ = fmt::format("{}: text \"{}\"", source_name, shown(text));
  regex.compile(text, true);
  return regex;
}

void Regex::compile(std::string_view pattern, bool is_literal) {
  const uint32_t options = PCRE2_UTF | (is_literal ? PCRE2_LITERAL : PCRE2_UCP);
  int error = 0;
  size_t position = 0;
  pcre2_code* const compiled = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()),
                                             pattern.size(), options, &error, &position, nullptr);
  if (compiled == nullptr) fail("{}: {}", name_, message_of(error));
  code_ = std::make_shared<Code>(compiled);
  // Where the machine or the pattern allows no machine code, PCRE2 interprets it.
  pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);
}

void Regex::for_each_match(std::string_view text, const Visit& visit) const {
  thread_local const MatchSpace space;
  const size_t none = text.size() + 1;
  size_t start = 0, last_end = none;
  while (start <= text.size()) {
    const auto match = [&](uint32_t options) {
      return pcre2_match(code_->pcre2, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                         start, PCRE2_NO_UTF_CHECK | options, space.data, space.context);
    };
    int found = match(0);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = match(PCRE2_NO_JIT);
    if (found == PCRE2_ERROR_NOMATCH) return;
    if (found < 0) {
      fail("{}: stopped on a text of {} bytes at byte {}: {}", name_, text.size(), start,
           message_of(found));
    }
    const PCRE2_SIZE* const ends = pcre2_get_ovector_pointer(space.data);
    const size_t begin = ends[0], end = ends[1];
    const bool is_empty = begin == end;
    if (!(is_empty && end == last_end)) visit(begin, end);
    last_end = end;
    start = end;
    if (is_empty) start += end < text.size() ? character_bytes(text.substr(end)) : 1;
  }
}

void Regex::for_each_part(std::string_view text, const VisitPart& visit) const {
  size_t covered = 0;
  for_each_match(text, [&](size_t begin, size_t end) {
    if (covered < begin) visit(covered, begin, false);
    visit(begin, end, true);
    covered = end;
  });
  if (covered < text.size()) visit(covered, text.size(), false);
}

}  // namespace tigon
