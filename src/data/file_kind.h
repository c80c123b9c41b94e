// What a data file holds and how it is packed, by its name.
#pragma once
#include <filesystem>
#include <optional>

namespace tigon {

enum class Content { kText, kJsonLines, kJsonArray, kParquet };
enum class Packing { kNone, kGzip, kXz, kZstd };

struct FileKind {
  Content content = Content::kText;
  Packing packing = Packing::kNone;
  bool operator==(const FileKind&) const = default;
};

/// By the ending: .txt, .jsonl or .ndjson, .json, .parquet; all but .parquet also with .gz, .xz or
/// .zst behind it. One of those three alone is packed text ("prose.xz", "prose.v2.gz"). nullopt for
/// anything else.
std::optional<FileKind> find_file_kind(const std::filesystem::path& file);
/// The same; throws Error naming the file and the known endings instead of nullopt.
FileKind file_kind(const std::filesystem::path& file);

}  // namespace tigon
