// Checks and small pieces every op shares. Messages read "[op] name: expected …, found …".
#pragma once
#include <ATen/core/Tensor.h>

#include <initializer_list>

namespace tigon {

/// A size that may be anything.
inline constexpr int64_t kAnySize = -1;

/// Refuses a tensor of another rank or with other sizes; kAnySize matches every size.
void check_shape(const char* op, const char* name, const at::Tensor& tensor,
                 std::initializer_list<int64_t> expected);
/// Refuses integers, bools and complex numbers.
void check_floating(const char* op, const char* name, const at::Tensor& tensor);
void check_dtype(const char* op, const char* name, const at::Tensor& tensor,
                 at::ScalarType expected);
/// Refuses a tensor that lies on another device than `reference`.
void check_device(const char* op, const char* name, const at::Tensor& tensor,
                  const at::Tensor& reference);

/// Attention's inputs: q [N, H, D] floating-point, k and v [M, Hkv, D] of q's dtype.
void check_queries_keys_values(const char* op, const at::Tensor& q, const at::Tensor& k,
                               const at::Tensor& v);

/// For the backward of a custom autograd Function that saves results of its own: create_graph would
/// silently lose their part of the second derivative, so it is refused.
void refuse_double_backward(const char* op);

/// Where sums run: float64 for float64, else float32.
at::ScalarType accumulation_type(at::ScalarType type);

}  // namespace tigon
