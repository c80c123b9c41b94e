#include "core/config_document.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <tuple>
#include <utility>

#include "core/suggestion.h"

namespace tigon {

namespace {

constexpr int kFileRank = 0;
constexpr int kInheritedRank = 1;
constexpr int kOverrideRank = 2;

/// "data.train[1].weight" → data, train, [1], weight.
std::vector<std::string> split_path(std::string_view path) {
  std::vector<std::string> keys;
  while (!path.empty()) {
    const size_t end = std::min(path.find_first_of(".[", 1), path.size());
    keys.emplace_back(path.substr(0, end));
    const bool is_dot = end < path.size() && path[end] == '.';
    path.remove_prefix(is_dot ? end + 1 : end);
  }
  return keys;
}

/// The number in "[1]"; nullopt for the key of a mapping.
std::optional<size_t> item_index(const std::string& key) {
  size_t index = 0;
  const char* const end = key.data() + key.size();
  if (!key.starts_with('[') || !key.ends_with(']')) return std::nullopt;
  const auto [stop, error] = std::from_chars(key.data() + 1, end - 1, index);
  if (error != std::errc() || stop != end - 1) return std::nullopt;
  return index;
}

/// The value one key below; nullptr if there is none.
YamlNode* step(YamlNode& node, const std::string& key) {
  const std::optional<size_t> index = item_index(key);
  if (node.kind != YamlNode::Kind::kList || !index) return node.find(key);
  return *index < node.items.size() ? &node.items[*index] : nullptr;
}

/// Adds to `own` what only `base` has, section by section.
void merge_below(YamlNode& own, const YamlNode& base) {
  for (const auto& [key, value] : base.entries) {
    if (YamlNode* const mine = own.find(key)) {
      if (mine->kind == YamlNode::Kind::kMapping) merge_below(*mine, value);
    } else {
      own.child(key, value.origin) = value;
    }
  }
}

std::string format_problem(const YamlFault& problem) {
  const YamlOrigin& origin = problem.origin;
  std::string place;
  if (origin.rank == kOverrideRank) {
    place = origin.source + "  ";
  } else if (origin.line > 0) {
    place = fmt::format("line {}  ", origin.line);
    if (origin.rank == kInheritedRank) place = origin.source + " " + place;
  }
  return fmt::format("\n  {}{}: {}", place, problem.path, problem.message);
}

}  // namespace

std::string join_path(std::string_view section, std::string_view key) {
  if (section.empty() || key.empty()) return std::string(section.empty() ? key : section);
  return fmt::format("{}.{}", section, key);
}

std::string item_path(std::string_view list, size_t index) {
  return fmt::format("{}[{}]", list, index);
}

ConfigDocument::ConfigDocument(const std::string& text, const std::string& source_name,
                               const std::vector<std::string>& overrides)
    : source_name_(source_name), root_(parse_yaml(text, source_name, kFileRank, problems_)) {
  if (root_.kind == YamlNode::Kind::kScalar || root_.kind == YamlNode::Kind::kList) {
    throw ConfigError(
        fmt::format("{}: expected keys and values, found {}", source_name, root_.shown()));
  }
  root_.kind = resolved_.kind = YamlNode::Kind::kMapping;
  root_.origin.line = 0;
  for (const std::string& override : overrides) apply_override(override);
}

void ConfigDocument::apply_override(const std::string& text) {
  const std::string source = fmt::format("override \"{}\"", text);
  const size_t sign = text.find('=');
  const std::string path = text.substr(0, sign);
  if (sign == std::string::npos || path.empty() || path.front() == '.' || path.back() == '.' ||
      path.find("..") != std::string::npos) {
    throw ConfigError(source + ": expected the form key.path=value");
  }
  YamlNode value = parse_yaml(text.substr(sign + 1), source, kOverrideRank, problems_);
  YamlNode* place = &root_;
  std::string walked;
  for (const std::string& key : split_path(path)) {
    if (place->kind == YamlNode::Kind::kScalar || place->kind == YamlNode::Kind::kList) {
      throw ConfigError(
          fmt::format("{}: expected {} to be a section, found {}", source, walked, place->shown()));
    }
    place = &place->child(key, value.origin);
    walked = join_path(walked, key);
  }
  *place = std::move(value);
}

void ConfigDocument::inherit(const std::string& path, const std::string& base_yaml,
                             const std::string& source_name) {
  const YamlNode base = parse_yaml(base_yaml, source_name, kInheritedRank, problems_);
  if (base.kind == YamlNode::Kind::kNull) return;
  if (base.kind != YamlNode::Kind::kMapping) {
    throw ConfigError(
        fmt::format("{}: expected keys and values, found {}", source_name, base.shown()));
  }
  YamlNode* section = &root_;
  for (const std::string& key : split_path(path)) {
    const bool is_section = section->kind == YamlNode::Kind::kMapping;
    section = is_section ? &section->child(key, base.origin) : section;
  }
  if (section->kind == YamlNode::Kind::kNull) section->kind = YamlNode::Kind::kMapping;
  if (section->kind == YamlNode::Kind::kMapping) merge_below(*section, base);
}

YamlNode* ConfigDocument::walk(const std::string& path) {
  YamlNode* node = &root_;
  for (const std::string& key : split_path(path)) {
    node = step(*node, key);
    if (node == nullptr) return nullptr;
  }
  return node;
}

const YamlNode* ConfigDocument::find(const std::string& path) const {
  const YamlNode* const node = const_cast<ConfigDocument*>(this)->walk(path);
  return node == nullptr || node->kind == YamlNode::Kind::kNull ? nullptr : node;
}

const YamlNode* ConfigDocument::ask(const std::string& path) {
  if (!is_known(path)) known_.push_back(path);
  return find(path);
}

std::vector<YamlEntry> ConfigDocument::ask_all(const std::string& path) {
  const YamlNode* const node = ask(path);
  if (node == nullptr) return {};
  if (node->kind != YamlNode::Kind::kMapping) {
    add_problem(path, "expected a section, found " + node->shown());
    return {};
  }
  open_.push_back(path);
  return node->entries;
}

YamlOrigin ConfigDocument::origin_of(const std::string& path) {
  YamlOrigin origin = root_.origin;
  YamlNode* node = &root_;
  for (const std::string& key : split_path(path)) {
    node = step(*node, key);
    if (node == nullptr) break;
    origin = node->origin;
  }
  return origin;
}

bool ConfigDocument::is_known(const std::string& path) const {
  return std::find(known_.begin(), known_.end(), path) != known_.end();
}

bool ConfigDocument::has_problem(const std::string& path) const {
  return std::any_of(problems_.begin(), problems_.end(),
                     [&](const YamlFault& problem) { return problem.path == path; });
}

void ConfigDocument::add_problem(const std::string& path, const std::string& message) {
  add_problem(origin_of(path), path, message);
}

void ConfigDocument::add_problem(const YamlOrigin& origin, const std::string& path,
                                 const std::string& message) {
  for (const YamlFault& known : problems_) {
    if (known.path == path && known.message == message) return;
  }
  problems_.push_back({origin, path, message});
}

void ConfigDocument::add_missing(const std::string& path, const std::string& expected) {
  // What is missing below something that is no section is no problem of its own.
  const size_t dot = path.rfind('.');
  if (dot != std::string::npos && has_problem(path.substr(0, dot))) return;
  add_problem(path, "missing (expected " + expected + ")");
}

void ConfigDocument::resolve(const std::string& path, YamlNode value) {
  YamlNode* place = &resolved_;
  for (const std::string& key : split_path(path)) {
    const std::optional<size_t> index = item_index(key);
    if (index && place->kind != YamlNode::Kind::kMapping) {
      place->kind = YamlNode::Kind::kList;
      if (place->items.size() <= *index) place->items.resize(*index + 1);
      place = &place->items[*index];
    } else {
      place = &place->child(key, {});
    }
  }
  *place = std::move(value);
}

void ConfigDocument::add_unknown_keys(const YamlNode& mapping, const std::string& path) {
  if (std::find(open_.begin(), open_.end(), path) != open_.end()) return;
  for (const auto& [key, value] : mapping.entries) {
    const std::string child = join_path(path, key);
    if (!is_known(child)) {
      const std::string nearest = nearest_path(child, known_);
      problems_.push_back(
          {value.origin, child,
           "unknown key" + (nearest.empty() ? "" : " (did you mean " + nearest + "?)")});
    } else if (!has_problem(child)) {
      add_unknown_keys(value, child);
      for (size_t i = 0; i < value.items.size(); ++i) {
        add_unknown_keys(value.items[i], item_path(child, i));
      }
    }
  }
}

void ConfigDocument::finish() {
  add_unknown_keys(root_, "");
  if (problems_.empty()) return;
  std::stable_sort(problems_.begin(), problems_.end(), [](const YamlFault& a, const YamlFault& b) {
    return std::tie(a.origin.rank, a.origin.source, a.origin.line) <
           std::tie(b.origin.rank, b.origin.source, b.origin.line);
  });
  std::string message = fmt::format("{}: {} {}", source_name_, problems_.size(),
                                    problems_.size() == 1 ? "problem" : "problems");
  for (const YamlFault& problem : problems_) message += format_problem(problem);
  throw ConfigError(message);
}

}  // namespace tigon
