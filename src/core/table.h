// Plain text tables for a terminal.
#pragma once
#include <string>
#include <vector>

namespace tigon {

/// Columns padded to the widest cell; first column left-aligned, the others right-aligned; a rule
/// below the header.
std::string format_table(const std::vector<std::string>& header,
                         const std::vector<std::vector<std::string>>& rows);

}  // namespace tigon
