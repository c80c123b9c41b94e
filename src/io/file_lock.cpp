#include "io/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace tigon {

FileLock::FileLock(const std::filesystem::path& path) : path_(path) {
  constexpr mode_t kMode = 0644;
  descriptor_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, kMode);
  if (descriptor_ < 0) fail("{}: cannot open for locking: {}", path.string(), std::strerror(errno));
}

FileLock::~FileLock() {
  close(descriptor_);
}

void FileLock::lock() {
  while (flock(descriptor_, LOCK_EX) != 0) {
    if (errno != EINTR) fail("{}: cannot lock: {}", path_.string(), std::strerror(errno));
  }
}

bool FileLock::try_lock() {
  if (flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return true;
  if (errno == EWOULDBLOCK || errno == EINTR) return false;
  fail("{}: cannot lock: {}", path_.string(), std::strerror(errno));
}

void FileLock::share_with_children() {
  fcntl(descriptor_, F_SETFD, 0);
}

void FileLock::remove() {
  std::error_code code;
  std::filesystem::remove(path_, code);
}

}  // namespace tigon
