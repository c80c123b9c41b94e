#include "data/corpus.h"

#include <string>
#include <utility>

#include "core/error.h"
#include "core/log.h"
#include "data/bad_record.h"
#include "data/file_kind.h"
#include "data/parquet.h"
#include "data/record_document.h"
#include "data/record_splitter.h"
#include "data/text_file.h"
#include "data/text_splitter.h"

namespace tigon {
namespace {

namespace fs = std::filesystem;

// How many of the records that are left out are named in the log.
constexpr int64_t kMaxNamed = 3;

class CorpusReader {
 public:
  CorpusReader(const DocumentOptions& options, const std::function<void(Document&&)>& visit)
      : options_(options), visit_(visit) {}

  void read(const fs::path& file) {
    switch (file_kind(file).content) {
      case Content::kText:
        return read_text(file);
      case Content::kJsonLines:
        return read_records(file, *make_line_splitter(record_visitor(file)));
      case Content::kJsonArray:
        return read_records(file, *make_array_splitter(file.string(), record_visitor(file)));
      case Content::kParquet:
        return for_each_parquet_row(file, record_columns(options_), [&](Json&& row, int64_t index) {
          take(fmt::format("{} row {}", file.string(), index),
               [&](const std::string&) { return document_of_record(row, options_); });
        });
    }
  }

  const CorpusCounts& counts() const { return counts_; }

 private:
  void read_text(const fs::path& file) {
    if (options_.format != "text") {
      fail("{}: expected a file of records (.jsonl, .json, .parquet) for format {}, found text",
           file.string(), options_.format);
    }
    const auto visit = [&](std::string&& text) { hand_over(Document::of_text(std::move(text))); };
    const auto too_long = [&] {
      handle(file.string(), BadRecord(&CorpusCounts::too_long,
                                      fmt::format("expected documents of at most {} bytes, found a "
                                                  "longer one; data.separator says which line "
                                                  "stands between documents",
                                                  options_.max_document_bytes)));
    };
    TextSplitter splitter(options_.separator, options_.max_document_bytes, visit, too_long);
    for_each_piece(file, [&](std::string_view piece) { splitter.add(piece); });
    splitter.finish();
  }

  static void read_records(const fs::path& file, RecordSplitter& splitter) {
    for_each_piece(file, [&](std::string_view piece) { splitter.add(piece); });
    splitter.finish();
  }

  RecordSplitter::Visitor record_visitor(const fs::path& file) {
    return [this, &file](const RawRecord& raw) {
      take(fmt::format("{} line {}", file.string(), raw.line), [&](const std::string& place) {
        if (raw.is_too_long) {
          throw BadRecord(&CorpusCounts::too_long,
                          fmt::format("expected a record of at most {} bytes, found a longer one",
                                      kMaxRecordBytes));
        }
        return document_of_record(parse(raw.text, place), options_);
      });
    };
  }

  static Json parse(std::string_view text, const std::string& place) {
    try {
      return parse_json(text, place);
    } catch (const Error& error) {
      // The place is said by who handles the record.
      throw BadRecord(&CorpusCounts::malformed, std::string(error.what()).substr(place.size() + 2));
    }
  }

  /// Hands over the document that `make` gives, or counts why there is none.
  template <class Make>
  void take(const std::string& place, const Make& make) {
    Document document;
    try {
      document = make(place);
      if (document.text_bytes() > options_.max_document_bytes) {
        throw BadRecord(&CorpusCounts::too_long,
                        fmt::format("expected a document of at most {} bytes, found {}",
                                    options_.max_document_bytes, document.text_bytes()));
      }
    } catch (const BadRecord& bad) {
      return handle(place, bad);
    }
    if (document.pieces.empty()) {
      ++counts_.empty;
    } else {
      hand_over(std::move(document));
    }
  }

  void hand_over(Document&& document) {
    ++counts_.documents;
    visit_(std::move(document));
  }

  void handle(const std::string& place, const BadRecord& bad) {
    if (options_.on_bad_record != "skip") {
      fail("{}: {} (data.on_bad_record: skip leaves such records out)", place, bad.what());
    }
    ++(counts_.*bad.kind());
    const int64_t bad_records = counts_.skipped() - counts_.empty;
    if (bad_records <= kMaxNamed) log_warning("data", "skipped: {}: {}", place, bad.what());
  }

  const DocumentOptions& options_;
  const std::function<void(Document&&)>& visit_;
  CorpusCounts counts_;
};

}  // namespace

CorpusCounts for_each_document(const std::vector<fs::path>& files,
                               const std::function<void(Document&& document)>& visit,
                               const DocumentOptions& options) {
  check_document_options(options);
  CorpusReader reader(options, visit);
  for (const fs::path& file : files) reader.read(file);
  return reader.counts();
}

}  // namespace tigon
