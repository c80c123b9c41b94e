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
#include "support/refusal.h"
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

/// The second derivative of an op whose GPU implementation has an own backward: plain definitions
/// give it, the kernels refuse.
inline void check_double_backward(const OpFunction& op, const at::Tensor& input,
                                  const std::string& name) {
  const at::Tensor leaf = input.detach().clone().requires_grad_(true);
  const at::Tensor out = op({leaf})[0];
  const auto backward = [&] {
    torch::autograd::grad({out}, {leaf}, {at::ones_like(out)}, /*retain_graph=*/true,
                          /*create_graph=*/true);
  };
  if (!leaf.is_cuda()) return backward();
  check_refused(backward, "[" + name + "] double backward");
}

/// `op` works on each row of its input alone: on a GPU, the last rows of one with more than 2³¹
/// numbers come out as they do by themselves. Takes 18 GB; nothing is done on a CPU.
inline void check_large_offsets(const OpFunction& op, int64_t row_size) {
  if (!test_device().is_cuda()) return;
  constexpr int64_t kLast = 5;
  const int64_t rows = (int64_t{1} << 31) / row_size + kLast;
  const at::Tensor x = at::zeros({rows, row_size}, at::dtype(at::kBFloat16).device(test_device()));
  x.narrow(0, rows - kLast, kLast).copy_(random_tensor({kLast, row_size}, 41));
  x.requires_grad_(true);
  const at::Tensor last = x.detach().narrow(0, rows - kLast, kLast).clone().requires_grad_(true);
  const at::Tensor found = op({x})[0], expected = op({last})[0];
  check_bitwise("out", found.narrow(0, rows - kLast, kLast), expected);
  const at::Tensor dout = at::ones_like(found);
  const at::Tensor dx = torch::autograd::grad({found}, {x}, {dout})[0];
  check_bitwise("dx", dx.narrow(0, rows - kLast, kLast),
                torch::autograd::grad({expected}, {last}, {at::ones_like(expected)})[0]);
}

/// bf16 values, kept in float64.
inline at::Tensor rounded_to_bf16(const at::Tensor& x) {
  return x.to(at::kBFloat16).to(at::kDouble);
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

/// Judges `op` in bfloat16 and in float16 by `definition` in the same, both against the definition
/// in float64: every output and every gradient by name.
inline void check_low_precision_runs(const OpFunction& op, const OpFunction& definition,
                                     const std::vector<at::Tensor>& inputs,
                                     const std::vector<std::string>& outputs,
                                     const std::vector<std::string>& names) {
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    INFO("dtype " << c10::toString(type));
    std::vector<at::Tensor> rounded;
    for (const at::Tensor& input : inputs) rounded.push_back(input.to(type).to(at::kDouble));
    const OpRun found = run_op(op, rounded, type);
    const OpRun plain = run_op(definition, rounded, type);
    const OpRun reference = run_op(definition, rounded, at::kDouble);
    for (size_t i = 0; i < outputs.size(); ++i) {
      check_low_precision(outputs[i], found.outputs[i], plain.outputs[i], reference.outputs[i]);
    }
    for (size_t i = 0; i < names.size(); ++i) {
      check_low_precision("d" + names[i], found.gradients[i], plain.gradients[i],
                          reference.gradients[i]);
    }
  }
}

/// Two runs on the same inputs give the same bits.
inline void check_repeatable(const OpFunction& op, const std::vector<at::Tensor>& inputs,
                             at::ScalarType dtype) {
  const OpRun first = run_op(op, inputs, dtype), second = run_op(op, inputs, dtype);
  for (size_t i = 0; i < first.outputs.size(); ++i) {
    check_bitwise("output " + std::to_string(i), second.outputs[i], first.outputs[i]);
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    check_bitwise("gradient " + std::to_string(i), second.gradients[i], first.gradients[i]);
  }
}

/// Whether an autograd Function of ours made the output, as the GPU implementations do; plain
/// definitions of elementwise ops leave nodes of Torch's own.
inline bool is_of_own_function(const at::Tensor& output) {
  return output.grad_fn() && output.grad_fn()->name().find("tigon::") != std::string::npos;
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
