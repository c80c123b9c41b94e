// A full disk for the time of a scope: no file of this process may grow beyond a number of bytes.
#pragma once
#include <sys/resource.h>

#include <stdexcept>

namespace tigon::testing {

class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    if (getrlimit(RLIMIT_FSIZE, &before_) != 0) throw std::runtime_error("getrlimit failed");
    set({bytes, before_.rlim_max});
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  static void set(const rlimit& limit) {
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) throw std::runtime_error("setrlimit failed");
  }
  rlimit before_{};
};

}  // namespace tigon::testing
