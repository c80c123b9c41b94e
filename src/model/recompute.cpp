#include "model/recompute.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace tigon {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// A part and the state its dropout generator had before it, carried by the graph.
struct PartRun : torch::CustomClassHolder {
  PartRun(RecomputedPart part_to_run, const std::optional<at::Generator>& dropout_generator)
      : part(std::move(part_to_run)) {
    if (dropout_generator) generator_before = dropout_generator->clone();
  }
  RecomputedPart part;
  std::optional<at::Generator> generator_before;
};

class RecomputedNode : public torch::autograd::Function<RecomputedNode> {
 public:
  /// The parameters are inputs of the node so that their gradients leave through it.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            at::TensorList parameters, const c10::intrusive_ptr<PartRun>& run,
                            const std::optional<at::Generator>& dropout_generator) {
    variable_list saved = {x};
    saved.insert(saved.end(), parameters.begin(), parameters.end());
    context->save_for_backward(saved);
    context->saved_data["run"] = c10::IValue::make_capsule(run);
    return run->part(x, dropout_generator);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto capsule = context->saved_data["run"].toCapsule();
    const PartRun& run = *static_cast<const PartRun*>(capsule.get());
    variable_list inputs = context->get_saved_variables();
    inputs[0] = inputs[0].detach().requires_grad_(context->needs_input_grad(0));

    variable_list wanted;
    for (const at::Tensor& input : inputs) {
      if (input.requires_grad()) wanted.push_back(input);
    }
    std::optional<at::Generator> generator;
    if (run.generator_before) generator = run.generator_before->clone();
    const at::AutoGradMode enable_grad(true);
    const at::Tensor out = run.part(inputs[0], generator);
    const variable_list found =
        torch::autograd::grad({out}, wanted, gradients, /*retain_graph=*/std::nullopt,
                              /*create_graph=*/false, /*allow_unused=*/true);

    variable_list result(inputs.size() + 2);  // the last two inputs are no tensors
    for (size_t i = 0, next = 0; i < inputs.size(); ++i) {
      if (inputs[i].requires_grad()) result[i] = found[next++];
    }
    return result;
  }
};

}  // namespace

at::Tensor recomputed(const RecomputedPart& part, const at::Tensor& x,
                      const std::vector<at::Tensor>& parameters,
                      const std::optional<at::Generator>& dropout_generator) {
  // Torch looks for inputs inside a TensorList, and passes over those of a vector.
  return RecomputedNode::apply(x, at::TensorList(parameters),
                               c10::make_intrusive<PartRun>(part, dropout_generator),
                               dropout_generator);
}

}  // namespace tigon
