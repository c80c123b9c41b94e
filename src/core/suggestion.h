// The known word nearest to a misspelt one.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace tigon {

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
int edit_distance(std::string_view a, std::string_view b);

/// The known key path ("lora.rank") nearest to `path` ("lora.rnk", "rank"): its last word may
/// differ in about a third of its letters; one in the same section goes first. Empty if none is
/// near.
std::string nearest_path(const std::string& path, const std::vector<std::string>& known);

}  // namespace tigon
