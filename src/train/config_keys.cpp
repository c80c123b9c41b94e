#include "train/config_keys.h"

#include "core/config_reader.h"

namespace tigon {
namespace {

void flatten(const YamlNode& mapping, const std::string& section,
             std::map<std::string, std::string>& into) {
  for (const auto& [key, value] : mapping.entries) {
    const std::string path = section.empty() ? key : section + "." + key;
    if (value.kind == YamlNode::Kind::kMapping) {
      flatten(value, path, into);
    } else {
      into[path] = one_line_yaml(value);
    }
  }
}

}  // namespace

std::map<std::string, std::string> flatten_config(const std::string& yaml,
                                                  const std::string& source_name) {
  std::map<std::string, std::string> keys;
  std::vector<YamlFault> faults;
  try {
    flatten(parse_yaml(yaml, source_name, /*rank=*/0, faults), "", keys);
  } catch (const UsageError& error) {
    // The text was written by a program: it is data, not a command line.
    throw Error(error.what());
  }
  if (!faults.empty()) {
    fail("{}: {}: {}", source_name, faults.front().path, faults.front().message);
  }
  return keys;
}

}  // namespace tigon
