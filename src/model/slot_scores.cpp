#include "model/slot_scores.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <vector>

#include "ops/checks.h"
#include "ops/gated_scan/gated_scan.h"

namespace tigon {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

at::Tensor leaf(const at::Tensor& x) {
  return x.detach().requires_grad_(true);
}

class SlotScores : public torch::autograd::Function<SlotScores> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                               const at::Tensor& s, const at::Tensor& log_gate,
                               const at::Tensor& initial_state, const at::Tensor& cu_seqlens,
                               const std::vector<int64_t>& lengths) {
    context->save_for_backward({q, k, s, log_gate, initial_state, cu_seqlens});
    context->saved_data["lengths"] = lengths;
    const at::AutoGradMode enable_grad(true);
    // gated_scan is linear in its queries: any do, to take the gradient at.
    const at::Tensor queries =
        at::zeros({q.size(0), q.size(1), s.size(2)}, q.options()).requires_grad_(true);
    const GatedScanResult scan = gated_scan(
        queries, s.detach(), k.detach(), log_gate.detach(),
        Segments::from_op_arguments(cu_seqlens, lengths, q.size(0)), initial_state.detach());
    const at::Tensor scores = torch::autograd::grad({scan.out}, {queries}, {q.detach()})[0];
    return {scores, scan.state.detach()};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    refuse_double_backward("slot_scores");
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &cu_seqlens = saved[5];
    const at::Tensor k = leaf(saved[1]), s = leaf(saved[2]), log_gate = leaf(saved[3]);
    const at::Tensor initial_state = leaf(saved[4]);
    const std::vector<int64_t> lengths = context->saved_data["lengths"].toIntVector();
    const at::AutoGradMode enable_grad(true);
    const GatedScanResult scan =
        gated_scan(gradients[0].detach(), s, k, log_gate,
                   Segments::from_op_arguments(cu_seqlens, lengths, q.size(0)), initial_state);
    const variable_list found =
        torch::autograd::grad({scan.out, scan.state}, {k, s, log_gate, initial_state},
                              {q.detach(), gradients[1].detach()});
    return {scan.out.detach(), found[0], found[1], found[2], found[3], Variable(), Variable()};
  }
};

}  // namespace

SlotScoresResult slot_scores(const at::Tensor& q, const at::Tensor& k, const at::Tensor& s,
                             const at::Tensor& log_gate, const Segments& segments,
                             const std::optional<at::Tensor>& initial_state) {
  const int64_t M = s.size(2), kv_heads = k.size(1);
  const at::Tensor initial =
      initial_state ? *initial_state
                    : at::zeros({segments.count(), kv_heads, M, k.size(2)}, k.options());
  if (segments.total == 0) return {q.new_empty({0, q.size(1), M}), initial};
  if (segments.are_equal && segments.longest == 1) {
    // A step of the recurrence, read directly.
    const at::Tensor no_queries = at::zeros({q.size(0), q.size(1), M}, q.options());
    const at::Tensor state = gated_scan(no_queries, s, k, log_gate, segments, initial).state;
    return {q.unflatten(1, {kv_heads, -1}).matmul(state.mT()).flatten(1, 2), state};
  }
  const variable_list results =
      SlotScores::apply(q, k, s, log_gate, initial, segments.cu_seqlens, segments.lengths);
  return {results[0], results[1]};
}

}  // namespace tigon
