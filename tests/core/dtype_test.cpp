#include "core/dtype.h"

#include "support/catch.h"

using namespace tigon;

TEST_CASE("dtype: sizes and both spellings, there and back") {
  struct Row {
    DType dtype;
    size_t bytes;
    const char* safetensors;
    const char* name;
  };
  const Row rows[] = {
      {DType::kFloat64, 8, "F64", "float64"}, {DType::kFloat32, 4, "F32", "float32"},
      {DType::kFloat16, 2, "F16", "float16"}, {DType::kBFloat16, 2, "BF16", "bfloat16"},
      {DType::kInt64, 8, "I64", "int64"},     {DType::kInt32, 4, "I32", "int32"},
      {DType::kInt16, 2, "I16", "int16"},     {DType::kInt8, 1, "I8", "int8"},
      {DType::kUInt8, 1, "U8", "uint8"},      {DType::kBool, 1, "BOOL", "bool"},
  };
  for (const Row& row : rows) {
    INFO(row.name);
    CHECK(dtype_bytes(row.dtype) == row.bytes);
    CHECK(safetensors_name(row.dtype) == row.safetensors);
    CHECK(dtype_name(row.dtype) == row.name);
    CHECK(dtype_from_safetensors(row.safetensors) == row.dtype);
    CHECK(dtype_from_name(row.name) == row.dtype);
  }
}

TEST_CASE("dtype: unknown spellings are nothing") {
  for (const char* name : {"", "f32", "F8_E4M3", "float32 ", "float32"}) {
    CHECK_FALSE(dtype_from_safetensors(name));
  }
  for (const char* name : {"", "F32", "torch.float32", "float"}) CHECK_FALSE(dtype_from_name(name));
}
