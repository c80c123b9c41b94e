// Rows of Parquet files, in a build that has Arrow.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "io/json_file.h"

namespace tigon {

/// Hands over every row as an object of those of `columns` that the file has, with its number from
/// 0; texts, numbers, booleans, lists and structs become what they are in JSON. A few hundred rows
/// are in memory at a time. Throws Error naming the file if it is damaged, has none of the columns
/// (the message lists those it has), or holds another type in them; and in a build without Arrow,
/// then with the command that adds it.
void for_each_parquet_row(const std::filesystem::path& file,
                          const std::vector<std::string>& columns,
                          const std::function<void(Json&& row, int64_t index)>& visit);

}  // namespace tigon
