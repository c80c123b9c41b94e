// Typed, range-checked fields of a JSON object from outside, with errors that name file and key.
#pragma once
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "io/json_file.h"

namespace tigon {

/// A null field counts as absent. Throws Error on the first field of a wrong type or out of range.
/// Keeps a reference to the object.
class JsonFields {
 public:
  /// `source_name` (and `prefix`, e.g. "rope_scaling.") stand before the key in messages. Throws
  /// Error if `object` is not an object.
  JsonFields(const Json& object, std::string source_name, std::string prefix = "");

  /// nullptr if absent or null.
  const Json* find(std::string_view key) const;
  bool has(std::string_view key) const { return find(key) != nullptr; }

  /// Without a fallback, the key must be there. Bounds are inclusive.
  int64_t integer(std::string_view key, int64_t low, int64_t high,
                  std::optional<int64_t> fallback = std::nullopt) const;
  /// A finite number > 0.
  double positive(std::string_view key, std::optional<double> fallback = std::nullopt) const;
  bool flag(std::string_view key, bool fallback) const;
  std::string text(std::string_view key, std::optional<std::string> fallback = std::nullopt) const;
  /// One integer, a list of them, or nothing (an empty list); bounds are inclusive.
  std::vector<int64_t> integers(std::string_view key, int64_t low, int64_t high) const;
  /// The object under a key, which must be there.
  JsonFields object(std::string_view key) const;

  const Json& json() const { return object_; }
  /// "SOURCE: KEY", as messages begin.
  std::string name_of(std::string_view key) const;
  /// Throws Error "SOURCE: KEY: expected …, found …".
  [[noreturn]] void refuse(std::string_view key, const std::string& expected,
                           const std::string& found) const;

 private:
  const Json& require(std::string_view key, const std::string& expected) const;

  const Json& object_;
  std::string source_name_, prefix_;
};

}  // namespace tigon
