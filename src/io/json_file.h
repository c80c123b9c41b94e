// JSON files from outside: bounded in size and depth, with errors that name the file.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace tigon {

/// Key order is kept, so that a written config reads like the one it came from.
using Json = nlohmann::ordered_json;

/// Parses text from outside; `source_name` appears in errors. Throws Error on malformed text, on
/// nesting deeper than 64, on a key that appears twice in one object and on an object of more than
/// 20,000 keys (looking a key up takes time in proportion to their number).
Json parse_json(std::string_view text, const std::string& source_name);
/// Throws Error on a missing, oversized (default 64 MiB) or malformed file (see parse_json).
Json read_json_file(const std::filesystem::path& path, size_t max_bytes = size_t{64} << 20);
/// Atomic, indented by two spaces, with a final newline.
void write_json_file(const std::filesystem::path& path, const Json& value);
/// The whole text of a file, at most max_bytes.
std::string read_text_file(const std::filesystem::path& path, size_t max_bytes = size_t{64} << 20);

}  // namespace tigon
