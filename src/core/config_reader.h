// Strict reading of YAML configs: every key is asked for by name with its type and range; all
// problems of a file are collected and thrown as one ConfigError that names file, line and key;
// keys nobody asked for are problems too.
#pragma once
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace tigon {

class ConfigDocument;

/// Inclusive bounds of a number. `at_least(1)`, `between(0, 1)`; `above(0)` excludes the bound
/// itself.
struct Range {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_is_excluded = false;
};
inline Range at_least(double low) {
  return {.low = low};
}
inline Range above(double low) {
  return {.low = low, .low_is_excluded = true};
}
inline Range between(double low, double high) {
  return {.low = low, .high = high};
}

/// One mapping of a config. Readers are cheap handles that share the document; a reader knows its
/// path. A getter without a default is a required key; a null value counts as absent. On a problem
/// a getter records it and returns its default (or a value in range), so that reading goes on and
/// finds the next problem; `finish()` on the root throws them all. Integers accept digit separators
/// and the suffixes K and M (20_000_000 = 20M).
class ConfigReader {
 public:
  /// Reads a YAML file; each override is "key.path=value" (the value is YAML; a missing section is
  /// created). Errors in the YAML itself or in an override's form throw ConfigError at once.
  static ConfigReader from_file(const std::filesystem::path& path,
                                const std::vector<std::string>& overrides = {});
  static ConfigReader from_text(const std::string& text, const std::string& source_name,
                                const std::vector<std::string>& overrides = {});

  /// Whether the key is present (and not null). Counts as asking for it.
  bool has(std::string_view key) const;

  /// Any scalar.
  std::string text(std::string_view key);
  std::string text(std::string_view key, const std::string& fallback);
  /// One of a few words.
  std::string choice(std::string_view key, const std::vector<std::string>& allowed);
  std::string choice(std::string_view key, const std::vector<std::string>& allowed,
                     const std::string& fallback);
  int64_t integer(std::string_view key, Range range = {});
  int64_t integer(std::string_view key, int64_t fallback, Range range = {});
  /// A finite number.
  double number(std::string_view key, Range range = {});
  double number(std::string_view key, double fallback, Range range = {});
  /// `true` or `false`.
  bool flag(std::string_view key, bool fallback);
  /// A list of strings; a single string is a list of one.
  std::vector<std::string> texts(std::string_view key);
  std::vector<std::string> texts(std::string_view key, const std::vector<std::string>& fallback);
  /// A list of integers; a single one is a list of one.
  std::vector<int64_t> integers(std::string_view key, const std::vector<int64_t>& fallback,
                                Range range = {});

  /// The keys of this mapping, for sections whose keys are data (`layer_windows: {7: 256}`);
  /// reading their values counts as asking.
  std::vector<std::string> keys() const;

  /// One reader for each entry of the list under a key; for a value that is no list, a reader of
  /// that value alone; none if the key is absent. An entry that is a plain value is read with the
  /// key "" (`entry.is_scalar("")`, `entry.text("")`). Problems name it `key[0]`.
  std::vector<ConfigReader> items(std::string_view key);

  /// The mapping under a key; an absent one reads as empty (its defaults then count as resolved).
  ConfigReader section(std::string_view key);
  /// Whether the value under the key is a plain scalar (for keys that take a name or a mapping).
  bool is_scalar(std::string_view key) const;

  /// Merges a base mapping below this reader's own keys: keys absent here are read from `base_yaml`
  /// (the text of another file, named `source_name` in messages). Used for `recipe: liger-gla`.
  void inherit(const std::string& base_yaml, const std::string& source_name);

  /// Records a problem of a key, for checks across fields ("6 does not divide num_heads 16").
  void problem(std::string_view key, const std::string& message);

  /// Throws ConfigError if any problem was recorded or any key of the document was never asked for.
  /// Root reader only.
  void finish();

  /// The effective values of everything that was asked for, defaults included, as YAML in the order
  /// of asking. Root reader only.
  std::string resolved_yaml() const;

 private:
  ConfigReader(std::shared_ptr<ConfigDocument> document, std::string path);

  std::shared_ptr<ConfigDocument> document_;
  std::string path_;  // "" for the root, "optimizer.schedule" for a section
};

}  // namespace tigon
