// In place of parquet_arrow.cpp in a build without Arrow.
#include "core/error.h"
#include "data/parquet.h"

namespace tigon {

void for_each_parquet_row(const std::filesystem::path& file, const std::vector<std::string>&,
                          const std::function<void(Json&& row, int64_t index)>&) {
  fail(
      "{}: this build reads no Parquet; `.venv/bin/pip install --no-deps pyarrow==26.0.1`, then "
      "`cmake --preset cpu` and building again adds it (or convert the file to .jsonl)",
      file.string());
}

}  // namespace tigon
