// What became of the records of a corpus.
#pragma once
#include <cstdint>
#include <string>

namespace tigon {

struct CorpusCounts {
  int64_t documents = 0;      // handed over
  int64_t empty = 0;          // records without text
  int64_t malformed = 0;      // not what the format says
  int64_t without_field = 0;  // a field is missing or no text
  int64_t too_long = 0;       // beyond the limit of a document or of a record

  int64_t skipped() const { return empty + malformed + without_field + too_long; }
  bool operator==(const CorpusCounts&) const = default;
};

/// "1,200 documents, 3 skipped (2 empty, 1 malformed)"; no word of what did not occur.
std::string counts_to_text(const CorpusCounts& counts);

}  // namespace tigon
