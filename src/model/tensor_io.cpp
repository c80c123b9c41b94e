#include "model/tensor_io.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "core/error.h"

namespace tigon {
namespace {

constexpr std::array<std::pair<DType, at::ScalarType>, 10> kTypes = {{
    {DType::kFloat64, at::kDouble},
    {DType::kFloat32, at::kFloat},
    {DType::kFloat16, at::kHalf},
    {DType::kBFloat16, at::kBFloat16},
    {DType::kInt64, at::kLong},
    {DType::kInt32, at::kInt},
    {DType::kInt16, at::kShort},
    {DType::kInt8, at::kChar},
    {DType::kUInt8, at::kByte},
    {DType::kBool, at::kBool},
}};

}  // namespace

at::ScalarType to_scalar_type(DType dtype) {
  const auto* found =
      std::find_if(kTypes.begin(), kTypes.end(), [&](auto& pair) { return pair.first == dtype; });
  TORCH_INTERNAL_ASSERT(found != kTypes.end(), "element type without a Torch type");
  return found->second;
}

DType to_dtype(at::ScalarType type) {
  const auto* found =
      std::find_if(kTypes.begin(), kTypes.end(), [&](auto& pair) { return pair.second == type; });
  if (found == kTypes.end()) fail("element type {} cannot be written", at::toString(type));
  return found->first;
}

at::Tensor to_tensor(const TensorView& view, at::Device device,
                     std::optional<at::ScalarType> dtype) {
  const at::ScalarType file_type = to_scalar_type(view.dtype);
  const at::ScalarType type = dtype.value_or(file_type);
  // A header of odd length leaves the data of a mapped file between two elements' addresses.
  const bool is_aligned = reinterpret_cast<uintptr_t>(view.data) % dtype_bytes(view.dtype) == 0;
  if (!is_aligned) {
    at::Tensor aligned = at::empty(view.shape, file_type);
    std::memcpy(aligned.mutable_data_ptr(), view.data, view.bytes);
    return aligned.to(device, type);
  }
  // Torch has no tensor over constant memory; this one is only read.
  const at::Tensor mapped =
      at::from_blob(const_cast<std::byte*>(view.data), view.shape, at::dtype(file_type));
  return mapped.to(device, type, /*non_blocking=*/false, /*copy=*/true);
}

TensorView view_of(const at::Tensor& tensor) {
  TORCH_INTERNAL_ASSERT(tensor.is_cpu() && tensor.is_contiguous(),
                        "view_of: expected a contiguous CPU tensor");
  return {.dtype = to_dtype(tensor.scalar_type()),
          .shape = tensor.sizes().vec(),
          .data = static_cast<const std::byte*>(tensor.const_data_ptr()),
          .bytes = tensor.nbytes()};
}

void save_tensors(const std::filesystem::path& path,
                  const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                  const std::map<std::string, std::string>& metadata) {
  std::vector<TensorSpec> specs;
  std::map<std::string, at::Tensor> by_name;
  for (const auto& [name, tensor] : tensors) {
    specs.push_back({name, to_dtype(tensor.scalar_type()), tensor.sizes().vec()});
    if (!by_name.emplace(name, tensor).second) {
      fail("{}: tensor {} is given twice", path.string(), name);
    }
  }
  at::Tensor held;  // on the host until the writer asks for the next one
  const auto data = [&](const std::string& name) {
    held = by_name.at(name).detach().cpu().contiguous();
    return view_of(held);
  };
  write_safetensors(path, specs, data, metadata);
}

}  // namespace tigon
