// Checks and the plain definition of rope: what rope.cpp and the GPU implementation share.
#pragma once
#include "ops/rope/rope.h"

namespace tigon {

/// Throws with name, expected and found for every argument that does not fit.
void check_rope(const at::Tensor& x, const at::Tensor& positions,
                const at::Tensor& inverse_frequencies);

/// The plain definition, for any device; arguments are checked already.
at::Tensor rope_plain(const at::Tensor& x, const at::Tensor& positions,
                      const at::Tensor& inverse_frequencies, double scale);

}  // namespace tigon
