#include "data/data_source.h"

#include <algorithm>
#include <filesystem>

#include "data/data_files.h"
#include "data/file_kind.h"

namespace tigon {
namespace {

void check_files(ConfigReader& reader, const std::string& key, const DataSource& source) {
  for (const std::string& path : source.paths) {
    try {
      for (const std::filesystem::path& file : find_data_files(path)) {
        const bool is_text = file_kind(file).content == Content::kText;
        if (!is_text || source.documents.format == "text") continue;
        reader.problem(key, fmt::format("{}: a text file has no records for format: {}",
                                        file.string(), source.documents.format));
        return;
      }
    } catch (const Error& error) {
      reader.problem(key, error.what());
    }
  }
}

DataSource read_mapping(ConfigReader& reader, const DocumentOptions& defaults,
                        bool may_be_weighted) {
  DataSource source;
  source.paths = reader.texts("path");
  source.documents = read_document_options(reader, defaults);
  if (may_be_weighted) {
    // Absent keys stay absent in the resolved config: no number stands for "none".
    if (reader.has("weight")) source.weight = reader.number("weight", above(0));
    if (reader.has("epochs")) source.epochs = reader.number("epochs", above(0));
    if (reader.has("max_tokens")) source.max_tokens = reader.integer("max_tokens", at_least(1));
    if (source.weight == 0 && (source.epochs > 0 || source.max_tokens > 0)) {
      reader.problem("weight", "missing (epochs and max_tokens limit an entry with a weight)");
    }
  }
  check_files(reader, "path", source);
  return source;
}

}  // namespace

std::vector<DataSource> read_data_sources(ConfigReader& reader, const std::string& key,
                                          const DocumentOptions& defaults, bool may_be_weighted) {
  std::vector<ConfigReader> items = reader.items(key);
  const auto is_text = [](const ConfigReader& item) { return item.is_scalar(""); };
  std::vector<DataSource> sources;
  if (std::ranges::all_of(items, is_text)) {
    // Read as one value: so a long list of files stays one line of the resolved config.
    DataSource source{.paths = reader.texts(key, {}), .documents = defaults};
    check_files(reader, key, source);
    if (!source.paths.empty()) sources.push_back(std::move(source));
    return sources;
  }
  std::vector<std::string> without_weight;
  bool continues = false;
  for (size_t i = 0; i < items.size(); ++i) {
    ConfigReader& item = items[i];
    if (!is_text(item)) {
      sources.push_back(read_mapping(item, defaults, may_be_weighted));
    } else if (continues) {
      sources.back().paths.push_back(item.text(""));
    } else {
      sources.push_back({.paths = {item.text("")}, .documents = defaults});
    }
    continues = is_text(item);
    if (sources.back().weight == 0) without_weight.push_back(fmt::format("{}[{}].weight", key, i));
    if (continues) check_files(item, "", {{sources.back().paths.back()}, defaults});
  }
  if (!is_weighted(sources)) return sources;
  for (const std::string& entry : without_weight) {
    reader.problem(entry, "missing (expected a weight for every entry or for none)");
  }
  return sources;
}

bool is_weighted(const std::vector<DataSource>& sources) {
  return std::ranges::any_of(sources, [](const DataSource& source) { return source.weight > 0; });
}

}  // namespace tigon
