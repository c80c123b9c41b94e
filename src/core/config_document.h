// The state that the readers of one config share: the tree, what was asked for, and the problems.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/yaml_tree.h"

namespace tigon {

/// "lora" and "rank" → "lora.rank"; either may be empty.
std::string join_path(std::string_view section, std::string_view key);

/// "data.train" and 1 → "data.train[1]": an entry of a list.
std::string item_path(std::string_view list, size_t index);

/// How one type of value is read, and written to the resolved config.
template <class Value>
struct ConfigType {
  std::string expected;  // for messages: "an integer ≥ 1"
  std::function<std::optional<Value>(const YamlNode&)> parse;
  std::function<YamlNode(const Value&)> show;
  Value substitute;  // for going on after a problem
};

class ConfigDocument {
 public:
  /// Throws ConfigError on malformed YAML and on overrides without the form key.path=value.
  ConfigDocument(const std::string& text, const std::string& source_name,
                 const std::vector<std::string>& overrides);

  /// Merges a base below the section at `path`.
  void inherit(const std::string& path, const std::string& base_yaml,
               const std::string& source_name);

  /// The value at a path; nullptr if absent or null. `ask` notes that somebody knows the key.
  const YamlNode* find(const std::string& path) const;
  const YamlNode* ask(const std::string& path);
  /// The entries of the mapping at a path. All of it counts as known, whatever it is.
  std::vector<YamlEntry> ask_all(const std::string& path);

  /// Reads one value: a problem is recorded, and the result is then the fallback or the substitute.
  template <class Value>
  Value read(const std::string& path, const ConfigType<Value>& type,
             const std::optional<Value>& fallback) {
    Value value = fallback.value_or(type.substitute);
    if (const YamlNode* const node = ask(path)) {
      if (const std::optional<Value> parsed = type.parse(*node)) {
        value = *parsed;
      } else {
        add_problem(path, "expected " + type.expected + ", found " + node->shown());
      }
    } else if (!fallback) {
      add_missing(path, type.expected);
    }
    resolve(path, type.show(value));
    return value;
  }

  /// A problem with the value at a path, or with its absence.
  void add_problem(const std::string& path, const std::string& message);
  /// The same for a value whose place is known.
  void add_problem(const YamlOrigin& origin, const std::string& path, const std::string& message);

  /// Throws ConfigError with all problems, those of keys nobody asked for included.
  void finish();
  std::string resolved_yaml() const { return emit_yaml(resolved_); }

 private:
  void apply_override(const std::string& text);
  YamlNode* walk(const std::string& path);
  /// Where to point for a path: its value, else the nearest section above it that was written.
  YamlOrigin origin_of(const std::string& path);
  void add_missing(const std::string& path, const std::string& expected);
  void resolve(const std::string& path, YamlNode value);
  void add_unknown_keys(const YamlNode& mapping, const std::string& path);
  bool has_problem(const std::string& path) const;
  bool is_known(const std::string& path) const;

  std::string source_name_;
  std::vector<YamlFault> problems_;
  YamlNode root_, resolved_;        // reading root_ adds to problems_
  std::vector<std::string> known_;  // paths somebody asked for
  std::vector<std::string> open_;   // paths below which every key is known
};

}  // namespace tigon
