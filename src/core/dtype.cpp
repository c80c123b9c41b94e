#include "core/dtype.h"

#include <array>

namespace tigon {

namespace {

struct DTypeFacts {
  DType dtype;
  size_t bytes;
  std::string_view safetensors_name, name;
};

// In the order of the enumeration.
constexpr std::array kFacts = {
    DTypeFacts{DType::kFloat64, 8, "F64", "float64"},
    DTypeFacts{DType::kFloat32, 4, "F32", "float32"},
    DTypeFacts{DType::kFloat16, 2, "F16", "float16"},
    DTypeFacts{DType::kBFloat16, 2, "BF16", "bfloat16"},
    DTypeFacts{DType::kInt64, 8, "I64", "int64"},
    DTypeFacts{DType::kInt32, 4, "I32", "int32"},
    DTypeFacts{DType::kInt16, 2, "I16", "int16"},
    DTypeFacts{DType::kInt8, 1, "I8", "int8"},
    DTypeFacts{DType::kUInt8, 1, "U8", "uint8"},
    DTypeFacts{DType::kBool, 1, "BOOL", "bool"},
};

constexpr const DTypeFacts& facts(DType dtype) {
  return kFacts[static_cast<size_t>(dtype)];
}

constexpr bool is_in_enumeration_order() {
  for (size_t i = 0; i < kFacts.size(); ++i) {
    if (kFacts[i].dtype != static_cast<DType>(i)) return false;
  }
  return true;
}
static_assert(is_in_enumeration_order());

}  // namespace

size_t dtype_bytes(DType dtype) {
  return facts(dtype).bytes;
}

std::string_view safetensors_name(DType dtype) {
  return facts(dtype).safetensors_name;
}

std::optional<DType> dtype_from_safetensors(std::string_view name) {
  for (const DTypeFacts& candidate : kFacts) {
    if (candidate.safetensors_name == name) return candidate.dtype;
  }
  return std::nullopt;
}

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const DTypeFacts& candidate : kFacts) {
    if (candidate.name == name) return candidate.dtype;
  }
  return std::nullopt;
}

std::string_view dtype_name(DType dtype) {
  return facts(dtype).name;
}

}  // namespace tigon
