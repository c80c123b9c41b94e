// The data files that a user's path stands for.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace tigon {

/// A file stands for itself. A folder stands for all files below it that have a known ending
/// (file_kind.h), links to folders not followed. Anything else that holds `*`, `?` or `[` is a
/// pattern: they match within a name, `**` any number of folders; only files with a known ending
/// count. A leading dot must be written out, in patterns and below a folder. Folders and patterns
/// give their files sorted by path. Throws Error naming the path if it is missing or stands for no
/// file.
std::vector<std::filesystem::path> find_data_files(const std::string& path_or_pattern);
/// The files of each, one list after another.
std::vector<std::filesystem::path> find_data_files(const std::vector<std::string>& paths);

}  // namespace tigon
