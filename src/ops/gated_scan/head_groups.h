// Products of tensors [M, heads, …] whose numbers of heads differ: a head of the smaller one serves
// a group of consecutive heads of the larger one, and is never repeated in memory.
#pragma once
#include <ATen/Functions.h>

namespace tigon {

/// [M, A, …] → [M, heads, A/heads, …].
inline at::Tensor split_heads(const at::Tensor& x, int64_t heads) {
  return x.unflatten(1, {heads, x.size(1) / heads});
}

/// [M, A, …] → [M, heads, …]: the sum over each group of A/heads.
inline at::Tensor sum_heads(const at::Tensor& x, int64_t heads) {
  return x.size(1) == heads ? x : split_heads(x, heads).sum(2);
}

/// Elementwise, with broadcasting in the dimensions after the heads.
inline at::Tensor grouped_product(const at::Tensor& a, const at::Tensor& b) {
  if (a.size(1) == b.size(1)) return a * b;
  if (a.size(1) < b.size(1)) return grouped_product(b, a);
  return (split_heads(a, b.size(1)) * b.unsqueeze(2)).flatten(1, 2);
}

/// [M, A, …, R, I] × [M, B, …, I, J] → [M, max(A, B), …, R, J]: the heads of a group become rows of
/// one product.
inline at::Tensor grouped_matmul(const at::Tensor& a, const at::Tensor& b) {
  if (a.size(1) == b.size(1)) return a.matmul(b);
  if (a.size(1) < b.size(1)) return grouped_matmul(b.mT(), a.mT()).mT();
  const int64_t group = a.size(1) / b.size(1);
  const at::Tensor rows = split_heads(a, b.size(1)).movedim(2, -3).flatten(-3, -2);
  return rows.matmul(b).unflatten(-2, {group, a.size(-2)}).movedim(-3, 2).flatten(1, 2);
}

}  // namespace tigon
