// Between safetensors views and Torch tensors.
#pragma once
#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "io/safetensors.h"

namespace tigon {

at::ScalarType to_scalar_type(DType dtype);
/// Throws Error for an element type that safetensors files of tigon do not hold.
DType to_dtype(at::ScalarType type);

/// Copies a view to a new tensor on `device`, converted to `dtype` if given (else kept).
at::Tensor to_tensor(const TensorView& view, at::Device device,
                     std::optional<at::ScalarType> dtype = std::nullopt);
/// A view of a contiguous CPU tensor, valid while it lives.
TensorView view_of(const at::Tensor& tensor);

/// Writes tensors (of any device, contiguous or not) to a safetensors file, atomically, one at a
/// time. Names must differ.
void save_tensors(const std::filesystem::path& path,
                  const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                  const std::map<std::string, std::string>& metadata = {});

}  // namespace tigon
