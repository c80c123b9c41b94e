// Many generated samples in one file.
#pragma once
#include <filesystem>
#include <span>
#include <string>

#include "io/atomic_file.h"

namespace tigon {

/// Grows sample by sample and appears complete or not at all. `.txt`: the corpus format, documents
/// separated by a line holding one NUL byte (what a sample holds of those is dropped). `.jsonl`: a
/// line {"text": …, "tokens": […]} a sample. Another ending throws UsageError.
class SampleFile {
 public:
  explicit SampleFile(const std::filesystem::path& path);

  /// Whether it is a file of documents (.txt).
  bool holds_documents() const { return !is_jsonl_; }
  void add(std::string text, std::span<const int64_t> tokens);
  void commit() { file_.commit(); }

 private:
  bool is_jsonl_;
  AtomicFile file_;
  bool is_empty_ = true;
};

}  // namespace tigon
