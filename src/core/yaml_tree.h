// YAML text as a plain tree in which every value knows where it was written. Only scalars, lists
// and mappings with text keys; yaml-cpp reads and writes the text and is seen nowhere else.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace tigon {

/// Where a value was written.
struct YamlOrigin {
  std::string source;  // a file's name, or the text of an override
  int line = 0;        // from 1; 0: no line in particular
  int rank = 0;        // order in a list of problems: 0 the file, 1 what it inherits, 2 overrides
};

struct YamlEntry;

/// A value and all below it.
struct YamlNode {
  enum class Kind { kNull, kScalar, kList, kMapping };

  Kind kind = Kind::kNull;
  YamlOrigin origin;
  std::string scalar;
  bool is_quoted = false;          // a quoted scalar is a text, whatever it looks like
  std::vector<YamlNode> items;     // of a list
  std::vector<YamlEntry> entries;  // of a mapping, in order

  /// The value under a key; nullptr if this is no mapping or has no such key.
  YamlNode* find(std::string_view key);
  /// The value under a key, made (as null, with this origin) if need be. A null becomes a mapping;
  /// must not be called on a scalar or a list.
  YamlNode& child(std::string_view key, const YamlOrigin& child_origin);
  /// As messages show it: `"3e-4x"`, `a list`, `a section`, `nothing`.
  std::string shown() const;
};

struct YamlEntry {
  std::string key;
  YamlNode value;
};

/// Two entries of one mapping that have the same key, or a key that is no text.
struct YamlFault {
  YamlOrigin origin;
  std::string path, message;
};

/// Reads one document. Throws ConfigError with the line on malformed YAML. Faults that leave the
/// rest readable are added to `faults`; the first of two equal keys counts.
YamlNode parse_yaml(const std::string& text, const std::string& source_name, int rank,
                    std::vector<YamlFault>& faults);
/// As YAML text that parse_yaml reads back.
std::string emit_yaml(const YamlNode& node);
/// The same on one line: "3e-4", "[q_proj, v_proj]", "null".
std::string one_line_yaml(const YamlNode& node);

}  // namespace tigon
