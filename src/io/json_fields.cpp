#include "io/json_fields.h"

#include <cmath>

namespace tigon {

namespace {

/// A value as messages show it; long ones are cut.
std::string shown(const Json& value) {
  // Invalid UTF-8 cannot come from a parsed file, but can from a caller's string.
  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() <= 60 ? text : text.substr(0, 60) + "…";
}

/// The value as an integer in a range, if it is one.
std::optional<int64_t> integer_in(const Json& value, int64_t low, int64_t high) {
  if (!value.is_number_integer()) return std::nullopt;
  if (value.is_number_unsigned() &&
      value.get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()}) {
    return std::nullopt;
  }
  const int64_t found = value.get<int64_t>();
  if (found < low || found > high) return std::nullopt;
  return found;
}

}  // namespace

JsonFields::JsonFields(const Json& object, std::string source_name, std::string prefix)
    : object_(object), source_name_(std::move(source_name)), prefix_(std::move(prefix)) {
  if (!object_.is_object()) {
    fail("{}: expected a JSON object, found {}", source_name_, shown(object_));
  }
}

const Json* JsonFields::find(std::string_view key) const {
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::string JsonFields::name_of(std::string_view key) const {
  return fmt::format("{}: {}{}", source_name_, prefix_, key);
}

void JsonFields::refuse(std::string_view key, const std::string& expected,
                        const std::string& found) const {
  fail("{}: expected {}, found {}", name_of(key), expected, found);
}

const Json& JsonFields::require(std::string_view key, const std::string& expected) const {
  const Json* const value = find(key);
  if (value == nullptr) refuse(key, expected, "nothing");
  return *value;
}

int64_t JsonFields::integer(std::string_view key, int64_t low, int64_t high,
                            std::optional<int64_t> fallback) const {
  if (fallback && !has(key)) return *fallback;
  const std::string expected = fmt::format("an integer from {} to {}", low, high);
  const Json& value = require(key, expected);
  const std::optional<int64_t> found = integer_in(value, low, high);
  if (!found) refuse(key, expected, shown(value));
  return *found;
}

double JsonFields::positive(std::string_view key, std::optional<double> fallback) const {
  if (fallback && !has(key)) return *fallback;
  const std::string expected = "a finite number > 0";
  const Json& value = require(key, expected);
  if (!value.is_number()) refuse(key, expected, shown(value));
  const double found = value.get<double>();
  if (!(found > 0) || !std::isfinite(found)) refuse(key, expected, shown(value));
  return found;
}

bool JsonFields::flag(std::string_view key, bool fallback) const {
  const Json* const value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) refuse(key, "true or false", shown(*value));
  return value->get<bool>();
}

std::string JsonFields::text(std::string_view key, std::optional<std::string> fallback) const {
  if (fallback && !has(key)) return *fallback;
  const Json& value = require(key, "a text");
  if (!value.is_string()) refuse(key, "a text", shown(value));
  return value.get<std::string>();
}

std::vector<int64_t> JsonFields::integers(std::string_view key, int64_t low, int64_t high) const {
  const Json* const value = find(key);
  if (value == nullptr) return {};
  std::vector<int64_t> found;
  for (const Json& item : value->is_array() ? *value : Json::array({*value})) {
    const std::optional<int64_t> number = integer_in(item, low, high);
    if (!number) {
      refuse(key, fmt::format("an integer from {} to {}, or a list of them", low, high),
             shown(item));
    }
    found.push_back(*number);
  }
  return found;
}

JsonFields JsonFields::object(std::string_view key) const {
  const Json& value = require(key, "an object");
  if (!value.is_object()) refuse(key, "an object", shown(value));
  return {value, source_name_, fmt::format("{}{}.", prefix_, key)};
}

}  // namespace tigon
