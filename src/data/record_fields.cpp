#include "data/record_fields.h"

#include "data/bad_record.h"

namespace tigon {

const Json* find_field(const Json& record, std::string_view path) {
  if (!record.is_object()) return nullptr;
  if (const auto found = record.find(path); found != record.end()) return &*found;
  const size_t dot = path.find('.');
  if (dot == std::string_view::npos) return nullptr;
  const auto section = record.find(path.substr(0, dot));
  return section == record.end() ? nullptr : find_field(*section, path.substr(dot + 1));
}

std::optional<std::string> read_text_field(const Json& record, std::string_view path) {
  const Json* const value = find_field(record, path);
  if (value == nullptr) {
    throw BadRecord(
        &CorpusCounts::without_field,
        fmt::format("expected a text under \"{}\", found {}", path, describe_json(record)));
  }
  if (value->is_null()) return std::nullopt;
  if (!value->is_string()) {
    throw BadRecord(
        &CorpusCounts::without_field,
        fmt::format("expected a text under \"{}\", found {} there", path, describe_json(*value)));
  }
  return value->get<std::string>();
}

std::string describe_json(const Json& value) {
  constexpr size_t kMaxShownKeys = 10;
  if (value.is_array()) return "a list";
  if (!value.is_object()) return std::string("a ") + value.type_name();
  if (value.empty()) return "no keys";
  std::string keys;
  size_t count = 0;
  for (const auto& [key, ignored] : value.items()) {
    if (++count > kMaxShownKeys) return "the keys " + keys + ", …";
    keys += (keys.empty() ? "" : ", ") + key;
  }
  return "the keys " + keys;
}

}  // namespace tigon
