// Names and sizes of element types, as safetensors files and the command line spell them. No Torch
// here.
#pragma once
#include <cstddef>
#include <optional>
#include <string_view>

namespace tigon {

enum class DType {
  kFloat64,
  kFloat32,
  kFloat16,
  kBFloat16,
  kInt64,
  kInt32,
  kInt16,
  kInt8,
  kUInt8,
  kBool
};

/// Bytes of one element.
size_t dtype_bytes(DType dtype);
/// "F32", "BF16", …: the spelling of safetensors headers.
std::string_view safetensors_name(DType dtype);
/// The reverse of safetensors_name; nullopt for a spelling that tigon does not read.
std::optional<DType> dtype_from_safetensors(std::string_view name);
/// "float32", "bfloat16", …: the spelling of --dtype and config.json; nullopt if unknown.
std::optional<DType> dtype_from_name(std::string_view name);
std::string_view dtype_name(DType dtype);

}  // namespace tigon
