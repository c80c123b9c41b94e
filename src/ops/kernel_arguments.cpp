#include "ops/kernel_arguments.h"

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

namespace tigon {

bool has_kernel_type(const at::Tensor& tensor) {
  const at::ScalarType type = tensor.scalar_type();
  return type == at::kFloat || type == at::kBFloat16 || type == at::kHalf;
}

ElementType element_type(const at::Tensor& tensor) {
  TORCH_INTERNAL_ASSERT(has_kernel_type(tensor));
  if (tensor.scalar_type() == at::kFloat) return ElementType::kFloat32;
  return tensor.scalar_type() == at::kHalf ? ElementType::kFloat16 : ElementType::kBFloat16;
}

at::Tensor with_vector_rows(const at::Tensor& tensor) {
  constexpr int64_t kBytes = 16;
  const int64_t last = tensor.dim() - 1;
  bool fits = tensor.stride(last) == 1 &&
              reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % kBytes == 0;
  for (int64_t d = 0; fits && d < last; ++d) {
    fits = tensor.size(d) <= 1 || tensor.stride(d) * tensor.element_size() % kBytes == 0;
  }
  return fits ? tensor : tensor.clone(at::MemoryFormat::Contiguous);
}

at::Tensor empty_rows(const at::Tensor& like) {
  return at::empty(like.sizes(), like.options());
}

}  // namespace tigon
