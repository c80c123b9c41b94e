// Runs an op and collects its outputs and the gradient of every input, to compare two
// implementations by name.
#pragma once
#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <string>
#include <vector>

#include "support/catch.h"
#include "support/compare.h"

namespace tigon::testing {

using OpFunction = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)>;

struct OpRun {
  std::vector<at::Tensor> outputs;    // undefined ones are kept
  std::vector<at::Tensor> gradients;  // of each input
};

/// Calls `op` on the inputs, converted to `dtype`, and takes the gradients of its outputs under
/// random upstream gradients that depend only on the shapes.
inline OpRun run_op(const OpFunction& op, const std::vector<at::Tensor>& inputs,
                    at::ScalarType dtype) {
  std::vector<at::Tensor> leaves;
  for (const at::Tensor& input : inputs) {
    leaves.push_back(input.detach().to(dtype).clone().requires_grad_(true));
  }
  OpRun run;
  run.outputs = op(leaves);
  std::vector<at::Tensor> defined, upstream;
  for (size_t i = 0; i < run.outputs.size(); ++i) {
    const at::Tensor& output = run.outputs[i];
    if (!output.defined()) continue;
    defined.push_back(output);
    upstream.push_back(random_tensor(output.sizes(), 500 + i, at::kDouble).to(output.dtype()));
  }
  run.gradients = torch::autograd::grad(defined, leaves, upstream);
  return run;
}

/// Compares every output and every gradient by name.
inline void check_runs(const OpRun& found, const OpRun& expected,
                       const std::vector<std::string>& outputs,
                       const std::vector<std::string>& inputs, double tolerance) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!expected.outputs[i].defined()) continue;
    check_close(outputs[i], found.outputs[i], expected.outputs[i], tolerance);
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    check_close("d" + inputs[i], found.gradients[i], expected.gradients[i], tolerance);
  }
}

/// bf16 values, kept in float64.
inline at::Tensor rounded_to_bf16(const at::Tensor& x) {
  return x.to(at::kBFloat16).to(at::kDouble);
}

/// The same values with another memory layout: neither contiguous nor starting at 0.
inline at::Tensor non_contiguous(const at::Tensor& x) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = 2 * shape.back() + 1;
  const at::Tensor wide = at::full(shape, 1e30, x.options());
  const at::Tensor view = wide.slice(-1, 1, shape.back(), 2);
  view.copy_(x);
  return view;
}

}  // namespace tigon::testing
