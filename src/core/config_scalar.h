// Numbers as configs spell them, and the words for what a range allows.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/config_reader.h"

namespace tigon {

/// "8", "-1", "20_000_000", "20M" (millions), "512K" (thousands); nullopt for anything else and for
/// what does not fit into 64 bits.
std::optional<int64_t> parse_integer(std::string_view text);
/// A finite decimal number.
std::optional<double> parse_number(std::string_view text);

bool is_in(const Range& range, double value);
/// A number the range allows, for going on after a problem.
double some_value_in(const Range& range);
/// describe("a number", above(0)) = "a number > 0".
std::string describe(const std::string& what, const Range& range);

}  // namespace tigon
