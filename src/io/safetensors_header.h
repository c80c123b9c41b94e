// The JSON header of a safetensors file, read without building a JSON tree: only the one form the
// format allows is accepted, so depth and memory are bounded by the tensors it describes.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tigon {

/// What the header says of a tensor; nothing in it has been compared with the file yet.
struct HeaderEntry {
  std::string name, dtype;
  std::vector<uint64_t> shape;
  uint64_t begin = 0, end = 0;  // bytes after the header
};

struct SafetensorsHeader {
  std::vector<HeaderEntry> entries;
  std::map<std::string, std::string> metadata;
};

/// Throws Error naming the file and the fault.
SafetensorsHeader parse_safetensors_header(std::string_view json, const std::string& file_name);

}  // namespace tigon
