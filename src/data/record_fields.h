// Texts inside a record.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "io/json_file.h"

namespace tigon {

/// The value at a dotted path ("meta.body"); a key that itself holds the dots comes first. nullptr
/// if it is not there.
const Json* find_field(const Json& record, std::string_view path);

/// The text at a path; nullopt if it is null. Throws BadRecord (without_field) that names the path
/// and what was found if it is missing or no text.
std::optional<std::string> read_text_field(const Json& record, std::string_view path);

/// For messages: "a number", "the keys a, b".
std::string describe_json(const Json& value);

}  // namespace tigon
