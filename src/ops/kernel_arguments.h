// Tensors as the kernels take them: element types and 16-byte accesses.
#pragma once
#include <ATen/core/Tensor.h>

#include "ops/element_type.h"

namespace tigon {

/// Whether the kernels are compiled for the tensor's dtype: float32, bfloat16 and float16.
bool has_kernel_type(const at::Tensor& tensor);
/// That dtype; any other is our own error.
ElementType element_type(const at::Tensor& tensor);

/// The tensor itself if its last dimension is dense and each of its rows begins at a multiple of 16
/// bytes, otherwise a contiguous copy. The last dimension must be a multiple of kVectorMultiple.
at::Tensor with_vector_rows(const at::Tensor& tensor);
/// For a result of the same shape and dtype: contiguous, whatever the layout of `like`.
at::Tensor empty_rows(const at::Tensor& like);

}  // namespace tigon
