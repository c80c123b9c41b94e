// Writes that are all or nothing: data goes to a temporary name beside the target, is fsynced, then
// renamed.
#pragma once
#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

namespace tigon {

/// One file. Without commit() the destructor removes the temporary file. Every failure (a full disk
/// and a file size limit too) throws Error naming the target. The target's folder must exist.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& target);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  /// Flushes to the disk and gives the file its name. No write may follow.
  void commit();

 private:
  std::filesystem::path target_, temporary_;
  int descriptor_ = -1;
};

/// Replaces a file's content at once.
void write_file_atomically(const std::filesystem::path& target, std::string_view text);

/// A folder that appears complete or not at all: fill `path()`, then commit(). The target must not
/// exist, unless it is an empty folder; `replace` allows an existing folder to be replaced at
/// commit. Missing parent folders are created. Without commit() the destructor removes all of it.
class AtomicFolder {
 public:
  explicit AtomicFolder(const std::filesystem::path& target, bool replace = false);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  const std::filesystem::path& path() const { return temporary_; }
  /// Flushes every file below path() to the disk and gives the folder its name.
  void commit();

 private:
  std::filesystem::path target_, temporary_;
  bool replace_, is_committed_ = false;
};

}  // namespace tigon
