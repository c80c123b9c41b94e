// The normalizer and the pre-tokenizer of a tokenizer.json.
#include <algorithm>
#include <array>
#include <utility>

#include "core/error.h"
#include "data/bpe/json_steps.h"
#include "data/bpe/tokenizer_json_parts.h"

namespace tigon {
namespace {

constexpr std::string_view kKnownNormalizers =
    "NFC, NFD, NFKC, NFKD, Prepend, Replace, Lowercase, Sequence";
constexpr std::string_view kKnownPreTokenizers =
    "ByteLevel, Split, Digits, Punctuation, Whitespace, WhitespaceSplit, Metaspace, Sequence";

// GPT-2's words: contractions, letters, digits and other characters with a space before, and white
// space but for the last space before a word.
constexpr std::string_view kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Words, and runs of what is neither word nor white space; joiners count as word characters here.
constexpr std::string_view kWhitespacePattern =
    R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D}]+|)"
    R"([^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D}\s]+)";

SplitBehavior behavior_of(const JsonFields& step, std::optional<std::string> fallback) {
  static const std::array<std::pair<std::string_view, SplitBehavior>, 5> kBehaviors = {
      {{"Isolated", SplitBehavior::kIsolated},
       {"Removed", SplitBehavior::kRemoved},
       {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
       {"MergedWithNext", SplitBehavior::kMergedWithNext},
       {"Contiguous", SplitBehavior::kContiguous}}};
  const std::string found = step.text("behavior", std::move(fallback));
  for (const auto& [name, behavior] : kBehaviors) {
    if (found == name) return behavior;
  }
  step.refuse("behavior",
              "one of Isolated, Removed, MergedWithPrevious, MergedWithNext, Contiguous", found);
}

/// Reads one step after the other into a PreTokenizerPart.
class PreTokenizerReader {
 public:
  PreTokenizerPart take() {
    // Later steps have seen GPT-2's characters; the model wants bytes.
    if (shows_byte_characters_) part_.steps.add(bytes_step());
    return std::move(part_);
  }

  void read(const std::string& type, const JsonFields& step) {
    if (part_.is_byte_level) {
      if (type == "ByteLevel") step.refuse("type", "one ByteLevel", "a second one");
      if (!shows_byte_characters_) part_.steps.add(byte_characters_step());
      shows_byte_characters_ = true;
    }
    if (type == "ByteLevel") return read_byte_level(step);
    if (type == "Split") return read_split(step);
    if (type == "Digits") return read_digits(step);
    if (type == "Punctuation") {
      check_keys(step, {"type", "behavior"});
      return add_pattern(R"([\p{P}$+<=>^`|~])", behavior_of(step, "Isolated"), step);
    }
    if (type == "Whitespace") {
      check_keys(step, {"type"});
      return add_pattern(kWhitespacePattern, SplitBehavior::kRemoved, step, true);
    }
    if (type == "WhitespaceSplit") {
      check_keys(step, {"type"});
      return add_pattern(R"(\s)", SplitBehavior::kRemoved, step);
    }
    if (type == "Metaspace") return read_metaspace(step);
    refuse_type(step, kKnownPreTokenizers);
  }

 private:
  void add_pattern(std::string_view pattern, SplitBehavior behavior, const JsonFields& step,
                   bool invert = false) {
    part_.steps.add(pattern_step(Regex(pattern, step.name_of("type")), behavior, invert));
  }

  void read_byte_level(const JsonFields& step) {
    check_keys(step, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
    if (step.flag("add_prefix_space", true)) part_.steps.add(prefix_space_step());
    if (step.flag("use_regex", true))
      add_pattern(kByteLevelPattern, SplitBehavior::kIsolated, step);
    part_.is_byte_level = true;
  }

  void read_split(const JsonFields& step) {
    check_keys(step, {"type", "pattern", "behavior", "invert"});
    part_.steps.add(pattern_step(read_pattern(step), behavior_of(step, std::nullopt),
                                 step.flag("invert", false)));
  }

  void read_digits(const JsonFields& step) {
    check_keys(step, {"type", "individual_digits"});
    const bool is_individual = step.flag("individual_digits", false);
    add_pattern(R"(\p{N})", is_individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous,
                step);
  }

  void read_metaspace(const JsonFields& step) {
    check_keys(step,
               {"type", "replacement", "add_prefix_space", "prepend_scheme", "split", "str_rep"});
    part_.steps.add(metaspace_step(read_character(step, "replacement"), read_prepend_scheme(step),
                                   step.flag("split", true)));
  }

  PreTokenizerPart part_;
  bool shows_byte_characters_ = false;
};

}  // namespace

Normalizer read_normalizer(const JsonFields& fields) {
  Normalizer normalizer;
  for_each_step(fields, "normalizer", "normalizers",
                [&](const std::string& type, const JsonFields& step) {
                  if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
                    check_keys(step, {"type"});
                    normalizer.add(unicode_form_step(type));
                  } else if (type == "Prepend") {
                    check_keys(step, {"type", "prepend"});
                    normalizer.add(prepend_step(step.text("prepend")));
                  } else if (type == "Replace") {
                    check_keys(step, {"type", "pattern", "content"});
                    normalizer.add(replace_step(read_pattern(step), step.text("content")));
                  } else if (type == "Lowercase") {
                    check_keys(step, {"type"});
                    normalizer.add(lowercase_step());
                  } else {
                    refuse_type(step, kKnownNormalizers);
                  }
                });
  return normalizer;
}

PreTokenizerPart read_pre_tokenizer(const JsonFields& fields) {
  PreTokenizerReader reader;
  for_each_step(fields, "pre_tokenizer", "pretokenizers",
                [&](const std::string& type, const JsonFields& step) { reader.read(type, step); });
  return reader.take();
}

}  // namespace tigon
