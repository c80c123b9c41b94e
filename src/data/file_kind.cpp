#include "data/file_kind.h"

#include <string>

#include "core/error.h"

namespace tigon {
namespace {

std::optional<Packing> find_packing(const std::string& ending) {
  if (ending == ".gz") return Packing::kGzip;
  if (ending == ".xz") return Packing::kXz;
  if (ending == ".zst") return Packing::kZstd;
  return std::nullopt;
}

std::optional<Content> find_content(const std::string& ending) {
  if (ending == ".txt") return Content::kText;
  if (ending == ".jsonl" || ending == ".ndjson") return Content::kJsonLines;
  if (ending == ".json") return Content::kJsonArray;
  if (ending == ".parquet") return Content::kParquet;
  return std::nullopt;
}

}  // namespace

std::optional<FileKind> find_file_kind(const std::filesystem::path& file) {
  if (const auto packing = find_packing(file.extension().string())) {
    const Content content = find_content(file.stem().extension().string()).value_or(Content::kText);
    // Parquet packs its own columns; its footer cannot be read from a stream.
    if (content == Content::kParquet) return std::nullopt;
    return FileKind{content, *packing};
  }
  const auto content = find_content(file.extension().string());
  return content ? std::optional(FileKind{*content, Packing::kNone}) : std::nullopt;
}

FileKind file_kind(const std::filesystem::path& file) {
  if (const auto kind = find_file_kind(file)) return *kind;
  fail(
      "{}: expected a .txt, .jsonl, .ndjson or .json file (also packed as .gz, .xz or .zst) or a "
      ".parquet file, found the ending \"{}\"",
      file.string(), file.extension().string());
}

}  // namespace tigon
