#include "io/only_file.h"

#include "core/error.h"

namespace tigon {

std::optional<std::filesystem::path> find_only_file(
    const std::filesystem::path& folder, const std::string& extension, const std::string& kind,
    const std::function<void(const std::filesystem::path& file)>& read) {
  std::optional<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != extension || !entry.is_regular_file()) continue;
    try {
      read(entry.path());
    } catch (const Error&) {
      continue;  // another program's file
    }
    if (found) {
      fail("{}: expected one {}, found {} and {}", folder.string(), kind,
           found->filename().string(), entry.path().filename().string());
    }
    found = entry.path();
  }
  return found;
}

}  // namespace tigon
