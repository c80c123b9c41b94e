// The records of a JSON file as it streams by, each as its own text. No more than one record is
// held.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace tigon {

/// A record's text beyond this is not kept.
inline constexpr size_t kMaxRecordBytes = size_t{256} << 20;

struct RawRecord {
  std::string_view text;     // empty if too long
  int64_t line = 0;          // where it starts, from 1
  bool is_too_long = false;  // its text was let go
};

class RecordSplitter {
 public:
  using Visitor = std::function<void(const RawRecord& record)>;
  virtual ~RecordSplitter() = default;

  /// Takes the next bytes of the file and hands over the records that they complete.
  virtual void add(std::string_view piece) = 0;
  /// The end of the file.
  virtual void finish() = 0;
};

/// A record a line; blank lines are none. A byte-order mark before the first line is dropped.
std::unique_ptr<RecordSplitter> make_line_splitter(RecordSplitter::Visitor visit,
                                                   size_t max_record_bytes = kMaxRecordBytes);

/// The elements of one JSON array. finish() and add() throw Error naming `source_name` and line for
/// a file that is no array, is cut off, or lacks a comma; whether an element is good JSON is not
/// looked at.
std::unique_ptr<RecordSplitter> make_array_splitter(const std::string& source_name,
                                                    RecordSplitter::Visitor visit,
                                                    size_t max_record_bytes = kMaxRecordBytes);

}  // namespace tigon
