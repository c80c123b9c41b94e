#include "io/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "core/error.h"
#include "core/interrupt.h"

namespace tigon {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_with_errno(const char* action, const fs::path& path) {
  const int code = errno;
  fail("cannot {} {}: {}", action, path.string(), std::strerror(code));
}

/// Absolute, so that a later change of the working folder does no harm, and without a final slash.
fs::path normalised(const fs::path& target) {
  if (target.empty()) fail("cannot write: the path is empty");
  const fs::path path = fs::absolute(target).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

/// A hidden name in the same folder (rename works only inside one file system), new for each call.
fs::path temporary_name(const fs::path& target) {
  static std::atomic<int> counter{0};
  return target.parent_path() /
         fmt::format(".{}.tmp-{}-{}", target.filename().string(), ::getpid(), counter++);
}

/// Makes a file's content, or a folder's list of names, survive a power cut.
void flush_to_disk(const fs::path& path, const fs::path& target) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail_with_errno("flush", target);
  const int result = ::fsync(descriptor);
  const int code = errno;
  ::close(descriptor);
  // Some file systems cannot flush a folder and say EINVAL.
  if (result != 0 && code != EINVAL) {
    errno = code;
    fail_with_errno("flush", target);
  }
}

/// Two folders change names in one step, or in three where the file system cannot (NFS).
void exchange_names(const fs::path& temporary, const fs::path& target) {
  const unsigned int exchange = RENAME_EXCHANGE;
  if (::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, target.c_str(), exchange) == 0) return;
  if (errno != EINVAL && errno != ENOSYS) fail_with_errno("replace", target);
  const fs::path old = temporary_name(target);
  if (::rename(target.c_str(), old.c_str()) != 0) fail_with_errno("replace", target);
  if (::rename(temporary.c_str(), target.c_str()) != 0) {
    const int code = errno;
    ::rename(old.c_str(), target.c_str());
    errno = code;
    fail_with_errno("replace", target);
  }
  ::rename(old.c_str(), temporary.c_str());
}

}  // namespace

AtomicFile::AtomicFile(const fs::path& target) : target_(normalised(target)) {
  ignore_file_size_signal();
  if (!fs::is_directory(target_.parent_path())) {
    fail("cannot write {}: the folder {} does not exist", target_.string(),
         target_.parent_path().string());
  }
  if (fs::is_directory(target_)) fail("cannot write {}: it is a folder", target_.string());
  temporary_ = temporary_name(target_);
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail_with_errno("write", target_);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    // Linux writes at most 2 GiB at once.
    const size_t piece = std::min(bytes.size(), size_t{1} << 30);
    const ssize_t written = ::write(descriptor_, bytes.data(), piece);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_with_errno("write", target_);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void AtomicFile::write(std::string_view text) {
  write(std::as_bytes(std::span<const char>(text.data(), text.size())));
}

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) fail_with_errno("write", target_);
  const int result = ::close(descriptor_);
  descriptor_ = -1;
  if (result != 0) fail_with_errno("write", target_);
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail_with_errno("write", target_);
  temporary_.clear();
  flush_to_disk(target_.parent_path(), target_);
}

void write_file_atomically(const fs::path& target, std::string_view text) {
  AtomicFile file(target);
  file.write(text);
  file.commit();
}

AtomicFolder::AtomicFolder(const fs::path& target, bool replace)
    : target_(normalised(target)), replace_(replace) {
  ignore_file_size_signal();
  if (fs::exists(fs::symlink_status(target_))) {
    if (!fs::is_directory(target_)) {
      fail("cannot write {}: expected a folder or nothing, found a file", target_.string());
    }
    if (!replace_ && !fs::is_empty(target_)) {
      fail("cannot write {}: the folder exists and is not empty", target_.string());
    }
  }
  std::error_code code;
  fs::create_directories(target_.parent_path(), code);
  const fs::path temporary = temporary_name(target_);
  if (code || !fs::create_directory(temporary, code)) {
    fail("cannot write {}: {}", target_.string(), code ? code.message() : "the name is taken");
  }
  temporary_ = temporary;
}

AtomicFolder::~AtomicFolder() {
  if (is_committed_ || temporary_.empty()) return;
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
}

void AtomicFolder::commit() {
  for (const auto& entry : fs::recursive_directory_iterator(temporary_)) {
    if (entry.is_regular_file() || entry.is_directory()) flush_to_disk(entry.path(), target_);
  }
  flush_to_disk(temporary_, target_);
  if (replace_ && fs::exists(target_)) {
    exchange_names(temporary_, target_);
  } else if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
    fail_with_errno("write", target_);
  }
  is_committed_ = true;
  // After an exchange the old content lies under the temporary name.
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
  flush_to_disk(target_.parent_path(), target_);
}

}  // namespace tigon
