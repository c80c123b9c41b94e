// Plain text tables for a terminal.
#pragma once
#include <string>
#include <vector>

namespace tigon {

/// Columns padded to the widest cell; a rule below the header. Columns with numbers are
/// right-aligned; the first one and those of words alone left-aligned.
std::string format_table(const std::vector<std::string>& header,
                         const std::vector<std::vector<std::string>>& rows);

}  // namespace tigon
