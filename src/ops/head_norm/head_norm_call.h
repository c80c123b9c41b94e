// The checks and the plain definition of head_norm: what head_norm.cpp and the GPU implementation
// share.
#pragma once
#include "ops/head_norm/head_norm.h"

namespace tigon {

/// Throws with name, expected and found for every argument that does not fit.
void check_head_norm(const at::Tensor& x, double eps);

/// The plain definition, for any device; arguments are checked already.
at::Tensor head_norm_plain(const at::Tensor& x, double eps);

}  // namespace tigon
