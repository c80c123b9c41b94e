// A read-only memory-mapped file.
#pragma once
#include <cstddef>
#include <filesystem>
#include <span>

namespace tigon {

class MappedFile {
 public:
  /// Throws Error if the file cannot be opened or mapped. An empty file maps to an empty span.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace tigon
