// The text of a file, compressed or not, in pieces.
#pragma once
#include <filesystem>
#include <functional>
#include <string_view>

namespace tigon {

/// Hands over the bytes of a file, unpacked if its ending says that it is packed (.gz, .xz, .zst),
/// piece after piece. Throws Error naming the file if it is missing, unreadable, corrupt, cut off,
/// or of a kind that file_kind() does not know.
void for_each_piece(const std::filesystem::path& file,
                    const std::function<void(std::string_view piece)>& visit);

}  // namespace tigon
