// Finding the one file of a kind in a folder, where its name does not tell.
#pragma once
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

namespace tigon {

/// The only regular file with this extension (".bin") that `read` accepts: it throws Error for
/// files of another kind. Nothing if there is none. Throws Error naming `kind` and two files if
/// there are several.
std::optional<std::filesystem::path> find_only_file(
    const std::filesystem::path& folder, const std::string& extension, const std::string& kind,
    const std::function<void(const std::filesystem::path& file)>& read);

}  // namespace tigon
