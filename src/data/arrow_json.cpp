#include "data/arrow_json.h"

#include <arrow/array.h>
#include <arrow/type.h>
#include <arrow/type_traits.h>

#include <string>

#include "core/error.h"

namespace tigon {
namespace {

template <class ArrayType>
const ArrayType& as(const arrow::Array& column) {
  return static_cast<const ArrayType&>(column);
}

template <class ListType>
Json list_to_json(const arrow::Array& column, int64_t index) {
  const auto& list = as<ListType>(column);
  Json items = Json::array();
  for (int64_t i = 0; i < list.value_length(index); ++i) {
    items.push_back(arrow_to_json(*list.values(), list.value_offset(index) + i));
  }
  return items;
}

Json struct_to_json(const arrow::Array& column, int64_t index) {
  const auto& fields = as<arrow::StructArray>(column);
  Json object = Json::object();
  for (int i = 0; i < fields.num_fields(); ++i) {
    object[fields.struct_type()->field(i)->name()] = arrow_to_json(*fields.field(i), index);
  }
  return object;
}

}  // namespace

Json arrow_to_json(const arrow::Array& column, int64_t index) {
  if (column.IsNull(index)) return nullptr;
  switch (column.type_id()) {
    case arrow::Type::STRING:
      return std::string(as<arrow::StringArray>(column).GetView(index));
    case arrow::Type::LARGE_STRING:
      return std::string(as<arrow::LargeStringArray>(column).GetView(index));
    case arrow::Type::BOOL:
      return as<arrow::BooleanArray>(column).Value(index);
    case arrow::Type::INT32:
      return as<arrow::Int32Array>(column).Value(index);
    case arrow::Type::INT64:
      return as<arrow::Int64Array>(column).Value(index);
    case arrow::Type::FLOAT:
      return as<arrow::FloatArray>(column).Value(index);
    case arrow::Type::DOUBLE:
      return as<arrow::DoubleArray>(column).Value(index);
    case arrow::Type::LIST:
      return list_to_json<arrow::ListArray>(column, index);
    case arrow::Type::LARGE_LIST:
      return list_to_json<arrow::LargeListArray>(column, index);
    case arrow::Type::STRUCT:
      return struct_to_json(column, index);
    case arrow::Type::DICTIONARY: {
      const auto& coded = as<arrow::DictionaryArray>(column);
      return arrow_to_json(*coded.dictionary(), coded.GetValueIndex(index));
    }
    default:
      fail("expected a column of texts, numbers, lists or structs, found {}",
           column.type()->ToString());
  }
}

}  // namespace tigon
