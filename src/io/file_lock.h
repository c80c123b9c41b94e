// A lock that processes share through a file.
#pragma once
#include <filesystem>

namespace tigon {

/// An exclusive lock (flock) on a file of its own, which is made if need be; its folder must exist.
/// It is held until the object goes or the process ends, however it ends.
class FileLock {
 public:
  /// Opens the file without locking. Throws Error if it cannot be opened.
  explicit FileLock(const std::filesystem::path& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

  /// Waits for whoever holds it.
  void lock();
  /// Whether it is held now; does not wait.
  bool try_lock();
  /// Programs started from now on hold the lock too: it is free when the last of them has ended.
  void share_with_children();
  /// Removes the file of a lock that is held. For work done once whose result others look for
  /// first: who waited on the removed file finds the result.
  void remove();

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

}  // namespace tigon
