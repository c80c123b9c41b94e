#include "ops/checks.h"

#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>

#include <string>

namespace tigon {
namespace {

std::string shape_text(at::IntArrayRef sizes) {
  std::string text;
  for (const int64_t size : sizes) {
    text +=
        (text.empty() ? "" : ", ") + (size == kAnySize ? std::string("any") : std::to_string(size));
  }
  return "[" + text + "]";
}

}  // namespace

void check_shape(const char* op, const char* name, const at::Tensor& tensor,
                 std::initializer_list<int64_t> expected) {
  const at::IntArrayRef wanted(expected.begin(), expected.size());
  bool fits = tensor.dim() == static_cast<int64_t>(wanted.size());
  for (size_t d = 0; fits && d < wanted.size(); ++d) {
    fits = wanted[d] == kAnySize || wanted[d] == tensor.size(static_cast<int64_t>(d));
  }
  TORCH_CHECK(fits, "[", op, "] ", name, ": expected shape ", shape_text(wanted), ", found ",
              shape_text(tensor.sizes()));
}

void check_floating(const char* op, const char* name, const at::Tensor& tensor) {
  TORCH_CHECK(tensor.is_floating_point(), "[", op, "] ", name,
              ": expected a floating-point dtype, found ", tensor.scalar_type());
}

void check_dtype(const char* op, const char* name, const at::Tensor& tensor,
                 at::ScalarType expected) {
  TORCH_CHECK(tensor.scalar_type() == expected, "[", op, "] ", name, ": expected dtype ", expected,
              ", found ", tensor.scalar_type());
}

void check_device(const char* op, const char* name, const at::Tensor& tensor,
                  const at::Tensor& reference) {
  TORCH_CHECK(tensor.device() == reference.device(), "[", op, "] ", name, ": expected device ",
              reference.device(), ", found ", tensor.device());
}

void check_queries_keys_values(const char* op, const at::Tensor& q, const at::Tensor& k,
                               const at::Tensor& v) {
  check_floating(op, "q", q);
  check_shape(op, "q", q, {kAnySize, kAnySize, kAnySize});
  check_shape(op, "k", k, {kAnySize, kAnySize, q.size(2)});
  check_shape(op, "v", v, {k.size(0), k.size(1), q.size(2)});
  check_dtype(op, "k", k, q.scalar_type());
  check_dtype(op, "v", v, q.scalar_type());
}

void refuse_double_backward(const char* op) {
  TORCH_CHECK(!c10::GradMode::is_enabled(), "[", op,
              "] double backward: expected a backward pass without create_graph, found one with it;"
              " second derivatives of this op are not implemented");
}

at::ScalarType accumulation_type(at::ScalarType type) {
  return type == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace tigon
