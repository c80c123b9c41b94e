// A record that cannot become a document.
#pragma once
#include <cstdint>

#include "core/error.h"
#include "data/corpus_counts.h"

namespace tigon {

class BadRecord : public Error {
 public:
  /// `kind`: which count it adds to.
  BadRecord(int64_t CorpusCounts::*kind, const std::string& reason) : Error(reason), kind_(kind) {}
  int64_t CorpusCounts::*kind() const { return kind_; }

 private:
  int64_t CorpusCounts::*kind_;
};

}  // namespace tigon
