// Checks and plain definitions of swiglu and swiglu_packed: what swiglu.cpp and the GPU
// implementation share.
#pragma once
#include "ops/swiglu/swiglu.h"

namespace tigon {

/// Throws with name, expected and found for every argument that does not fit.
void check_swiglu(const at::Tensor& gate, const at::Tensor& up);
void check_swiglu_packed(const at::Tensor& gate_up);

/// The plain definition, for any device; arguments are checked already.
at::Tensor swiglu_plain(const at::Tensor& gate, const at::Tensor& up);
at::Tensor swiglu_packed_plain(const at::Tensor& gate_up);

/// Both halves [N, F] of gate_up [N, 2F], as views.
struct GateAndUp {
  at::Tensor gate, up;
};
GateAndUp halves(const at::Tensor& gate_up);

}  // namespace tigon
