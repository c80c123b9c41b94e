// Checks and plain definitions of rms_norm and add_rms_norm: what rms_norm.cpp and the GPU
// implementation share.
#pragma once
#include <tuple>

#include "ops/rms_norm/rms_norm.h"

namespace tigon {

/// Throws with name, expected and found for every argument that does not fit.
void check_rms_norm(const char* op, const at::Tensor& x, const at::Tensor& weight, double eps);
void check_add_rms_norm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                        double eps);

/// The plain definitions, for any device; arguments are checked already.
at::Tensor rms_norm_plain(const at::Tensor& x, const at::Tensor& weight, double eps);
std::tuple<at::Tensor, at::Tensor> add_rms_norm_plain(const at::Tensor& x,
                                                      const at::Tensor& residual,
                                                      const at::Tensor& weight, double eps);

}  // namespace tigon
