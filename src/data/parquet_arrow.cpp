#include <arrow/io/file.h>
#include <arrow/record_batch.h>
#include <arrow/result.h>
#include <arrow/type.h>
#include <fmt/ranges.h>
#include <parquet/arrow/reader.h>
#include <parquet/exception.h>
#include <parquet/properties.h>

#include <algorithm>
#include <exception>
#include <memory>

#include "core/error.h"
#include "data/arrow_json.h"
#include "data/parquet.h"

namespace tigon {
namespace {

constexpr int64_t kRowsAtOnce = 256;
constexpr int64_t kBufferBytes = int64_t{1} << 20;

/// Numbers of the file's leaf columns under the wanted top-level columns.
std::vector<int> wanted_leaves(const parquet::arrow::FileReader& reader,
                               const std::vector<std::string>& columns) {
  const parquet::SchemaDescriptor& schema = *reader.parquet_reader()->metadata()->schema();
  std::vector<int> leaves;
  std::string names;
  for (int i = 0; i < schema.num_columns(); ++i) {
    const std::string name = schema.Column(i)->path()->ToDotVector().front();
    if (std::ranges::find(columns, name) != columns.end()) leaves.push_back(i);
    names += (names.empty() ? "" : ", ") + name;
  }
  if (leaves.empty()) {
    fail("expected a column {}, found {}", fmt::format("{}", fmt::join(columns, " or ")), names);
  }
  return leaves;
}

template <class Value>
Value value_or_fail(arrow::Result<Value> result) {
  if (!result.ok()) fail("{}", result.status().message());
  return std::move(result).ValueUnsafe();
}

/// Errors here do not name the file yet.
void read_rows(const std::filesystem::path& file, const std::vector<std::string>& columns,
               const std::function<void(Json&& row, int64_t index)>& visit) {
  parquet::ReaderProperties properties;
  // Column by column in small pieces: a row group may be larger than memory.
  properties.enable_buffered_stream();
  properties.set_buffer_size(kBufferBytes);
  parquet::ArrowReaderProperties arrow_properties(/*use_threads=*/false);
  arrow_properties.set_batch_size(kRowsAtOnce);
  arrow_properties.set_pre_buffer(false);
  parquet::arrow::FileReaderBuilder builder;
  const auto stream = value_or_fail(arrow::io::ReadableFile::Open(file.string()));
  if (const arrow::Status status = builder.Open(stream, properties); !status.ok()) {
    fail("{}", status.message());
  }
  const auto reader = value_or_fail(builder.properties(arrow_properties)->Build());
  std::vector<int> row_groups(static_cast<size_t>(reader->num_row_groups()));
  for (size_t i = 0; i < row_groups.size(); ++i) row_groups[i] = static_cast<int>(i);
  const auto batches =
      value_or_fail(reader->GetRecordBatchReader(row_groups, wanted_leaves(*reader, columns)));
  int64_t index = 0;
  while (const auto batch = value_or_fail(batches->Next())) {
    if (const arrow::Status status = batch->ValidateFull(); !status.ok()) {
      fail("{}", status.message());
    }
    for (int64_t i = 0; i < batch->num_rows(); ++i, ++index) {
      Json row = Json::object();
      for (int column = 0; column < batch->num_columns(); ++column) {
        row[batch->column_name(column)] = arrow_to_json(*batch->column(column), i);
      }
      visit(std::move(row), index);
    }
  }
}

}  // namespace

void for_each_parquet_row(const std::filesystem::path& file,
                          const std::vector<std::string>& columns,
                          const std::function<void(Json&& row, int64_t index)>& visit) {
  // What the visitor throws has its own words.
  std::exception_ptr from_visitor;
  const auto guarded = [&](Json&& row, int64_t index) {
    try {
      visit(std::move(row), index);
    } catch (...) {
      from_visitor = std::current_exception();
      throw;
    }
  };
  try {
    read_rows(file, columns, guarded);
  } catch (const std::exception& error) {
    if (from_visitor) std::rethrow_exception(from_visitor);
    fail("{}: {}", file.string(), error.what());
  }
}

}  // namespace tigon
