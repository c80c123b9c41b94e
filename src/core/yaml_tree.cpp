#include "core/yaml_tree.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>

namespace tigon {

namespace {

// Aliases can make a few lines grow without bound.
constexpr int kMaxNodes = 100'000;
constexpr int kMaxDepth = 32;

class TreeBuilder {
 public:
  TreeBuilder(const std::string& source_name, int rank, std::vector<YamlFault>& faults)
      : source_name_(source_name), rank_(rank), faults_(faults) {}

  YamlNode build(const YAML::Node& node, const std::string& path, int line, int depth) {
    if (++count_ > kMaxNodes || depth > kMaxDepth) {
      throw ConfigError(fmt::format("{} line {}: more than {} values or {} levels", source_name_,
                                    line, kMaxNodes, kMaxDepth));
    }
    YamlNode result;
    result.origin = {source_name_, line, rank_};
    if (node.IsScalar()) {
      result.kind = YamlNode::Kind::kScalar;
      result.scalar = node.Scalar();
      result.is_quoted = node.Tag() == "!";
    } else if (node.IsSequence()) {
      result.kind = YamlNode::Kind::kList;
      for (const YAML::Node& item : node) {
        result.items.push_back(build(item, path, item.Mark().line + 1, depth + 1));
      }
    } else if (node.IsMap()) {
      result.kind = YamlNode::Kind::kMapping;
      for (const auto& entry : node) add_entry(result, entry.first, entry.second, path, depth);
    }
    return result;
  }

 private:
  void add_entry(YamlNode& mapping, const YAML::Node& key, const YAML::Node& value,
                 const std::string& path, int depth) {
    const int line = key.Mark().line + 1;
    const YamlOrigin origin{source_name_, line, rank_};
    if (!key.IsScalar()) {
      faults_.push_back(
          {origin, path.empty() ? "top level" : path, "expected keys that are words"});
      return;
    }
    const std::string& name = key.Scalar();
    const std::string child_path = path.empty() ? name : path + "." + name;
    if (const YamlNode* const first = mapping.find(name)) {
      faults_.push_back(
          {origin, child_path, fmt::format("given twice (first on line {})", first->origin.line)});
      return;
    }
    mapping.entries.push_back({name, build(value, child_path, line, depth + 1)});
  }

  const std::string& source_name_;
  int rank_;
  std::vector<YamlFault>& faults_;
  int count_ = 0;
};

void emit(const YamlNode& node, YAML::Emitter& emitter) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      emitter << YAML::Null;
      break;
    case YamlNode::Kind::kScalar:
      if (node.is_quoted) emitter << YAML::DoubleQuoted;
      emitter << node.scalar;
      break;
    case YamlNode::Kind::kList:
      emitter << YAML::Flow << YAML::BeginSeq;
      for (const YamlNode& item : node.items) emit(item, emitter);
      emitter << YAML::EndSeq;
      break;
    case YamlNode::Kind::kMapping:
      emitter << YAML::BeginMap;
      for (const auto& [key, value] : node.entries) {
        emitter << YAML::Key << key << YAML::Value;
        emit(value, emitter);
      }
      emitter << YAML::EndMap;
      break;
  }
}

}  // namespace

YamlNode* YamlNode::find(std::string_view key) {
  const auto found = std::find_if(entries.begin(), entries.end(),
                                  [&](const YamlEntry& entry) { return entry.key == key; });
  return found == entries.end() ? nullptr : &found->value;
}

YamlNode& YamlNode::child(std::string_view key, const YamlOrigin& child_origin) {
  if (kind == Kind::kNull) kind = Kind::kMapping;
  if (YamlNode* const found = find(key)) return *found;
  YamlNode& made = entries.emplace_back(YamlEntry{std::string(key), {}}).value;
  made.origin = child_origin;
  return made;
}

std::string YamlNode::shown() const {
  switch (kind) {
    case Kind::kScalar:
      return "\"" + (scalar.size() <= 60 ? scalar : scalar.substr(0, 60) + "…") + "\"";
    case Kind::kList:
      return "a list";
    case Kind::kMapping:
      return "a section";
    case Kind::kNull:
      break;
  }
  return "nothing";
}

YamlNode parse_yaml(const std::string& text, const std::string& source_name, int rank,
                    std::vector<YamlFault>& faults) {
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.size() > 1) {
      throw ConfigError(
          fmt::format("{}: expected one YAML document, found {}", source_name, documents.size()));
    }
    const YAML::Node root = documents.empty() ? YAML::Node() : documents[0];
    return TreeBuilder(source_name, rank, faults).build(root, "", 1, 0);
  } catch (const YAML::Exception& exception) {
    throw ConfigError(fmt::format("{} line {}: not valid YAML: {}", source_name,
                                  exception.mark.line + 1, exception.msg));
  }
}

std::string one_line_yaml(const YamlNode& node) {
  if (node.kind == YamlNode::Kind::kNull) return "null";
  YAML::Emitter emitter;
  emitter.SetMapFormat(YAML::Flow);
  emit(node, emitter);
  return {emitter.c_str(), emitter.size()};
}

std::string emit_yaml(const YamlNode& node) {
  YAML::Emitter emitter;
  emit(node, emitter);
  return std::string(emitter.c_str(), emitter.size()) + "\n";
}

}  // namespace tigon
