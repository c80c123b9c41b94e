// An op on inputs of its own, ready to run: what is timed, checked and watched.
#pragma once
#include <string>
#include <vector>

#include "bench/op_cases.h"

namespace tigon {

struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};

class OpCall {
 public:
  /// Random inputs and gradients of the outputs. `op` must outlive the call.
  OpCall(const OpCase& op, const OpSizes& sizes, at::Device device, at::ScalarType dtype);

  /// The same values in float64 on the CPU, where every op runs its plain definition.
  OpCall in_float64() const;

  /// The outputs; nothing is kept for a backward pass.
  std::vector<NamedTensor> forward() const;
  /// The outputs and the gradients of all trained inputs ("gradient of q").
  std::vector<NamedTensor> forward_backward() const;

  /// Bytes of the inputs.
  int64_t bytes() const;

 private:
  OpCall() = default;
  std::vector<at::Tensor> call() const;

  const OpCase* op_ = nullptr;
  OpSizes sizes_;
  Batch batch_;
  std::vector<OpInput> inputs_;
  std::vector<at::Tensor> upstream_;  // gradients of the outputs
};

/// The largest error of a call's outputs and gradients, and what it is allowed to be.
struct OpCheck {
  std::string op = {}, worst = {};  // worst: the tensor that is furthest off
  double error = 0;                 // relative RMS
  double tolerance = 0;
  bool holds() const { return error <= tolerance; }
};

/// Compares the op on a small ragged batch of these heads' size and of the call's dtype with the
/// same values in float64 on the CPU. Tolerance: 1e-4 for float32, 2e-2 for bfloat16 (a dozen
/// roundings of 2⁻⁹).
OpCheck check_op(const OpCase& op, const OpSizes& sizes, at::Device device, at::ScalarType dtype);

/// What runs the op on this device at this dtype and size of heads, found by watching a small call:
/// "plain", "FlashAttention" (LibTorch's) or "kernel".
std::string served_by(const OpCase& op, const OpSizes& sizes, at::Device device,
                      at::ScalarType dtype);

}  // namespace tigon
