// A cell of an Arrow column as JSON.
#pragma once
#include <arrow/type_fwd.h>

#include <cstdint>

#include "io/json_file.h"

namespace tigon {

/// The value at `index`: texts, numbers, booleans, null, lists, structs, and what dictionaries
/// stand for. Throws Error naming the type for any other, bytes and dates among them.
Json arrow_to_json(const arrow::Array& column, int64_t index);

}  // namespace tigon
