// The bytes of a file in pieces of a fixed size.
#pragma once
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <vector>

namespace tigon {

inline constexpr size_t kPieceBytes = size_t{1} << 20;

/// Reads a file in pieces of kPieceBytes; the last one may be empty.
class PieceReader {
 public:
  /// Throws Error naming the file if it cannot be opened.
  explicit PieceReader(const std::filesystem::path& path);

  /// The next piece, valid until the following call. Throws Error naming the file if reading fails.
  std::string_view next();
  bool is_at_end() const { return stream_.eof(); }

 private:
  std::filesystem::path path_;
  std::ifstream stream_;
  std::vector<char> buffer_;
};

}  // namespace tigon
