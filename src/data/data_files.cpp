#include "data/data_files.h"

#include <fnmatch.h>

#include <algorithm>
#include <system_error>

#include "core/error.h"
#include "data/file_kind.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

bool is_hidden(const fs::path& path) {
  return path.filename().string().starts_with('.');
}

bool is_pattern(const std::string& text) {
  return text.find_first_of("*?[") != std::string::npos;
}

/// The entries of a folder; none where it cannot be read as a folder.
std::vector<fs::path> entries_of(const fs::path& folder) {
  std::vector<fs::path> entries;
  std::error_code code;
  for (fs::directory_iterator entry(folder.empty() ? "." : folder, code), end;
       !code && entry != end; entry.increment(code)) {
    entries.push_back(folder / entry->path().filename());
  }
  return entries;
}

bool is_data_file(const fs::path& path) {
  std::error_code ignored;
  return find_file_kind(path).has_value() && fs::is_regular_file(path, ignored);
}

bool is_own_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(fs::symlink_status(path, ignored));
}

/// All data files below a folder.
void add_below(const fs::path& folder, std::vector<fs::path>& found) {
  for (const fs::path& entry : entries_of(folder)) {
    if (is_hidden(entry)) continue;
    if (is_own_folder(entry)) {
      add_below(entry, found);
    } else if (is_data_file(entry)) {
      found.push_back(entry);
    }
  }
}

/// The data files under `folder` that the rest of a pattern, its parts begin … end, stands for.
void add_matches(const fs::path& folder, fs::path::const_iterator begin,
                 fs::path::const_iterator end, std::vector<fs::path>& found) {
  if (begin == end) return;
  const std::string part = begin->string();
  const auto rest = std::next(begin);
  if (part == "**") {
    if (rest == end) return add_below(folder, found);
    add_matches(folder, rest, end, found);
    for (const fs::path& entry : entries_of(folder)) {
      if (is_own_folder(entry) && !is_hidden(entry)) add_matches(entry, begin, end, found);
    }
    return;
  }
  std::vector<fs::path> matches;
  if (is_pattern(part)) {
    for (const fs::path& entry : entries_of(folder)) {
      const std::string name = entry.filename().string();
      if (fnmatch(part.c_str(), name.c_str(), FNM_PERIOD) == 0) matches.push_back(entry);
    }
  } else {
    matches.push_back(folder / part);
  }
  for (const fs::path& match : matches) {
    if (rest == end) {
      if (is_data_file(match)) found.push_back(match);
    } else if (fs::is_directory(match)) {
      add_matches(match, rest, end, found);
    }
  }
}

void sort(std::vector<fs::path>& files) {
  std::sort(files.begin(), files.end());
  // Two `**` can reach a file in two ways.
  files.erase(std::unique(files.begin(), files.end()), files.end());
}

}  // namespace

std::vector<fs::path> find_data_files(const std::string& path_or_pattern) {
  const fs::path path(path_or_pattern);
  std::error_code ignored;
  std::vector<fs::path> found;
  if (fs::is_directory(path, ignored)) {
    add_below(path, found);
    sort(found);
    if (found.empty()) fail("{}: expected a folder with data files, found none", path_or_pattern);
    return found;
  }
  if (fs::exists(path, ignored)) return {path};
  if (!is_pattern(path_or_pattern)) {
    fail("expected an existing file or folder, found nothing at '{}'", path_or_pattern);
  }
  const fs::path pattern = path.relative_path();
  add_matches(path.root_path(), pattern.begin(), pattern.end(), found);
  sort(found);
  if (found.empty()) {
    fail("{}: expected a pattern of data files, found none that match", path_or_pattern);
  }
  return found;
}

std::vector<fs::path> find_data_files(const std::vector<std::string>& paths) {
  std::vector<fs::path> files;
  for (const std::string& path : paths) {
    const std::vector<fs::path> found = find_data_files(path);
    files.insert(files.end(), found.begin(), found.end());
  }
  return files;
}

}  // namespace tigon
