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
#include "support/tolerance.h"

namespace tigon::testing {

using OpFunction = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)>;

struct OpRun {
  std::vector<at::Tensor> outputs;    // undefined ones are kept
  std::vector<at::Tensor> gradients;  // of each input
};

/// The upstream gradient of an op's i-th output; depends only on the shape.
inline at::Tensor upstream_gradient(const at::Tensor& output, size_t i) {
  return random_tensor(output.sizes(), 500 + i, at::kDouble).to(output.dtype());
}

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
    upstream.push_back(upstream_gradient(output, i));
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

/// Trains one input at a time: it gets the gradient that it gets when all are trained, and the
/// frozen others get none.
inline void check_frozen_inputs(const OpFunction& op, const std::vector<at::Tensor>& inputs,
                                const std::vector<std::string>& names) {
  const OpRun all = run_op(op, inputs, at::kDouble);
  for (size_t trained = 0; trained < names.size(); ++trained) {
    INFO("trained " << names[trained]);
    std::vector<at::Tensor> leaves;
    for (const at::Tensor& input : inputs) {
      leaves.push_back(input.detach().to(at::kDouble).clone());
    }
    leaves[trained].requires_grad_(true);
    const std::vector<at::Tensor> outputs = op(leaves);
    std::vector<at::Tensor> reached, upstream;
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (!outputs[i].defined() || !outputs[i].requires_grad()) continue;
      reached.push_back(outputs[i]);
      upstream.push_back(upstream_gradient(outputs[i], i));
    }
    torch::autograd::backward(reached, upstream);
    for (size_t i = 0; i < names.size(); ++i) {
      if (i == trained) {
        check_close("d" + names[i], leaves[i].grad(), all.gradients[i], kExactMath);
      } else {
        CHECK_FALSE(leaves[i].grad().defined());
      }
    }
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
