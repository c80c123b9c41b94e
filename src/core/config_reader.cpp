#include "core/config_reader.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <utility>

#include "core/config_document.h"
#include "core/config_scalar.h"

namespace tigon {

namespace {

constexpr size_t kMaxConfigBytes = size_t{1} << 20;

bool is_scalar_node(const YamlNode& node) {
  return node.kind == YamlNode::Kind::kScalar;
}
/// A scalar that YAML does not call a text.
bool is_plain(const YamlNode& node) {
  return is_scalar_node(node) && !node.is_quoted;
}

YamlNode scalar_node(std::string text, bool is_quoted = false) {
  YamlNode node;
  node.kind = YamlNode::Kind::kScalar;
  node.scalar = std::move(text);
  node.is_quoted = is_quoted;
  return node;
}

std::optional<bool> parse_flag(const YamlNode& node) {
  if (!is_plain(node)) return std::nullopt;
  for (const char* word : {"true", "True", "TRUE"}) {
    if (node.scalar == word) return true;
  }
  for (const char* word : {"false", "False", "FALSE"}) {
    if (node.scalar == word) return false;
  }
  return std::nullopt;
}

/// A text that looks like another type is quoted, so that every YAML reader takes it for a text.
YamlNode text_node(const std::string& text) {
  const YamlNode plain = scalar_node(text);
  const bool looks_different = parse_flag(plain) || parse_number(text) || parse_integer(text);
  return scalar_node(text, looks_different);
}

ConfigType<std::string> text_type() {
  return {.expected = "a text",
          .parse = [](const YamlNode& node) -> std::optional<std::string> {
            if (!is_scalar_node(node)) return std::nullopt;
            return node.scalar;
          },
          .show = text_node,
          .substitute = ""};
}

ConfigType<std::string> choice_type(const std::vector<std::string>& allowed) {
  return {.expected = fmt::format("one of {}", fmt::join(allowed, ", ")),
          .parse = [&allowed](const YamlNode& node) -> std::optional<std::string> {
            const bool is_allowed =
                std::find(allowed.begin(), allowed.end(), node.scalar) != allowed.end();
            if (!is_scalar_node(node) || !is_allowed) return std::nullopt;
            return node.scalar;
          },
          .show = text_node,
          .substitute = allowed.at(0)};
}

ConfigType<int64_t> integer_type(const Range& range) {
  return {.expected = describe("an integer", range),
          .parse = [range](const YamlNode& node) -> std::optional<int64_t> {
            if (!is_plain(node)) return std::nullopt;
            const std::optional<int64_t> value = parse_integer(node.scalar);
            if (!value || !is_in(range, static_cast<double>(*value))) return std::nullopt;
            return value;
          },
          .show = [](int64_t value) { return scalar_node(std::to_string(value)); },
          .substitute = static_cast<int64_t>(some_value_in(range))};
}

ConfigType<double> number_type(const Range& range) {
  return {.expected = describe("a number", range),
          .parse = [range](const YamlNode& node) -> std::optional<double> {
            if (!is_plain(node)) return std::nullopt;
            const std::optional<double> value = parse_number(node.scalar);
            if (!value || !is_in(range, *value)) return std::nullopt;
            return value;
          },
          .show = [](double value) { return scalar_node(fmt::format("{}", value)); },
          .substitute = some_value_in(range)};
}

ConfigType<bool> flag_type() {
  return {.expected = "true or false",
          .parse = parse_flag,
          .show = [](bool value) { return scalar_node(value ? "true" : "false"); },
          .substitute = false};
}

/// A list of values of another type; a single value is a list of one.
template <class Value>
ConfigType<std::vector<Value>> list_type(const ConfigType<Value>& item) {
  return {.expected = item.expected + " or a list of them",
          .parse = [item](const YamlNode& node) -> std::optional<std::vector<Value>> {
            const bool is_list = node.kind == YamlNode::Kind::kList;
            std::vector<Value> values;
            for (const YamlNode& entry : is_list ? node.items : std::vector<YamlNode>{node}) {
              const std::optional<Value> value = item.parse(entry);
              if (!value) return std::nullopt;
              values.push_back(*value);
            }
            return values;
          },
          .show =
              [item](const std::vector<Value>& values) {
                YamlNode node;
                node.kind = YamlNode::Kind::kList;
                for (const Value& value : values) node.items.push_back(item.show(value));
                return node;
              },
          .substitute = {}};
}

std::string read_config_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path)) {
    throw ConfigError(fmt::format("cannot read the config {}: {}", path.string(),
                                  file ? "it is a folder" : std::strerror(errno)));
  }
  std::string text(kMaxConfigBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kMaxConfigBytes) {
    throw ConfigError(
        fmt::format("{}: expected a config of at most {} bytes", path.string(), kMaxConfigBytes));
  }
  return text;
}

}  // namespace

ConfigReader::ConfigReader(std::shared_ptr<ConfigDocument> document, std::string path)
    : document_(std::move(document)), path_(std::move(path)) {}

ConfigReader ConfigReader::from_file(const std::filesystem::path& path,
                                     const std::vector<std::string>& overrides) {
  return from_text(read_config_file(path), path.string(), overrides);
}

ConfigReader ConfigReader::from_text(const std::string& text, const std::string& source_name,
                                     const std::vector<std::string>& overrides) {
  return {std::make_shared<ConfigDocument>(text, source_name, overrides), ""};
}

bool ConfigReader::has(std::string_view key) const {
  return document_->ask(join_path(path_, key)) != nullptr;
}

std::string ConfigReader::text(std::string_view key) {
  return document_->read<std::string>(join_path(path_, key), text_type(), std::nullopt);
}

std::string ConfigReader::text(std::string_view key, const std::string& fallback) {
  return document_->read<std::string>(join_path(path_, key), text_type(), fallback);
}

std::string ConfigReader::choice(std::string_view key, const std::vector<std::string>& allowed) {
  return document_->read<std::string>(join_path(path_, key), choice_type(allowed), std::nullopt);
}

std::string ConfigReader::choice(std::string_view key, const std::vector<std::string>& allowed,
                                 const std::string& fallback) {
  return document_->read<std::string>(join_path(path_, key), choice_type(allowed), fallback);
}

int64_t ConfigReader::integer(std::string_view key, Range range) {
  return document_->read<int64_t>(join_path(path_, key), integer_type(range), std::nullopt);
}

int64_t ConfigReader::integer(std::string_view key, int64_t fallback, Range range) {
  return document_->read<int64_t>(join_path(path_, key), integer_type(range), fallback);
}

double ConfigReader::number(std::string_view key, Range range) {
  return document_->read<double>(join_path(path_, key), number_type(range), std::nullopt);
}

double ConfigReader::number(std::string_view key, double fallback, Range range) {
  return document_->read<double>(join_path(path_, key), number_type(range), fallback);
}

bool ConfigReader::flag(std::string_view key, bool fallback) {
  return document_->read<bool>(join_path(path_, key), flag_type(), fallback);
}

std::vector<std::string> ConfigReader::texts(std::string_view key) {
  return document_->read<std::vector<std::string>>(join_path(path_, key), list_type(text_type()),
                                                   std::nullopt);
}

std::vector<std::string> ConfigReader::texts(std::string_view key,
                                             const std::vector<std::string>& fallback) {
  return document_->read<std::vector<std::string>>(join_path(path_, key), list_type(text_type()),
                                                   fallback);
}

std::vector<int64_t> ConfigReader::integers(std::string_view key,
                                            const std::vector<int64_t>& fallback, Range range) {
  return document_->read<std::vector<int64_t>>(join_path(path_, key),
                                               list_type(integer_type(range)), fallback);
}

ConfigReader ConfigReader::section(std::string_view key) {
  std::string path = join_path(path_, key);
  const YamlNode* const node = document_->ask(path);
  if (node != nullptr && node->kind != YamlNode::Kind::kMapping) {
    document_->add_problem(path, "expected a section, found " + node->shown());
  }
  return {document_, std::move(path)};
}

std::vector<std::string> ConfigReader::keys() const {
  std::vector<std::string> names;
  const YamlNode* const node = document_->find(path_);
  if (node == nullptr) return names;
  for (const YamlEntry& entry : node->entries) names.push_back(entry.key);
  return names;
}

std::vector<ConfigReader> ConfigReader::items(std::string_view key) {
  const std::string path = join_path(path_, key);
  const YamlNode* const node = document_->ask(path);
  std::vector<ConfigReader> readers;
  if (node == nullptr) return readers;
  if (node->kind != YamlNode::Kind::kList) {
    readers.push_back({document_, path});
    return readers;
  }
  for (size_t i = 0; i < node->items.size(); ++i) {
    readers.push_back({document_, item_path(path, i)});
  }
  return readers;
}

bool ConfigReader::is_scalar(std::string_view key) const {
  const YamlNode* const node = document_->find(join_path(path_, key));
  return node != nullptr && is_scalar_node(*node);
}

void ConfigReader::inherit(const std::string& base_yaml, const std::string& source_name) {
  document_->inherit(path_, base_yaml, source_name);
}

void ConfigReader::problem(std::string_view key, const std::string& message) {
  document_->add_problem(join_path(path_, key), message);
}

void ConfigReader::finish() {
  if (!path_.empty()) throw std::logic_error("ConfigReader::finish is for the root reader");
  document_->finish();
}

std::string ConfigReader::resolved_yaml() const {
  if (!path_.empty()) throw std::logic_error("ConfigReader::resolved_yaml is for the root reader");
  return document_->resolved_yaml();
}

}  // namespace tigon
