#include "io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "core/error.h"

namespace tigon {

namespace {

void check(bool is_good, const std::filesystem::path& path, const char* action, int descriptor) {
  if (is_good) return;
  const std::string reason = std::strerror(errno);
  if (descriptor >= 0) ::close(descriptor);
  fail("cannot {} {}: {}", action, path.string(), reason);
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  check(descriptor >= 0, path, "open", descriptor);
  struct stat status {};
  check(::fstat(descriptor, &status) == 0, path, "read the size of", descriptor);
  if (!S_ISREG(status.st_mode)) {
    ::close(descriptor);
    fail("cannot read {}: expected a regular file, found {}", path.string(),
         S_ISDIR(status.st_mode) ? "a folder" : "a special file");
  }
  size_ = static_cast<size_t>(status.st_size);
  if (size_ > 0) {
    void* const address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
    check(address != MAP_FAILED, path, "map", descriptor);
    data_ = static_cast<const std::byte*>(address);
  }
  ::close(descriptor);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace tigon
