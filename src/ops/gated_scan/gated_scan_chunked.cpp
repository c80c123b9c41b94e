#include "ops/gated_scan/gated_scan_chunked.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "ops/blocks.h"
#include "ops/checks.h"
#include "ops/gated_scan/block_decays.h"
#include "ops/gated_scan/block_scores.h"
#include "ops/gated_scan/block_states.h"
#include "ops/gated_scan/head_groups.h"

namespace tigon {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// Longer blocks cost more in scores, shorter ones in states: equal for heads of 64.
constexpr int64_t kLongestBlock = 64;

BlockLayout make_layout(const std::vector<int64_t>& lengths, at::Device device) {
  const auto longest = static_cast<uint64_t>(*std::max_element(lengths.begin(), lengths.end()));
  const auto size = static_cast<int64_t>(std::bit_ceil(longest));
  return BlockLayout(lengths, std::min(size, kLongestBlock), device);
}

// Shapes: M blocks of C tokens, L state heads of G query heads each.

// [N, H, D] → [M, H, C, D].
at::Tensor to_blocks(const at::Tensor& x, const BlockLayout& layout, at::ScalarType dtype) {
  return layout.to_blocks(x).to(dtype).transpose(1, 2).contiguous();
}

// [M, H, C, D] → [N, H, D].
at::Tensor to_tokens(const at::Tensor& x, const BlockLayout& layout, at::ScalarType dtype) {
  return layout.to_tokens(x.transpose(1, 2)).to(dtype);
}

// [N, L·G, D] → [M, L, C, G, D].
at::Tensor to_query_blocks(const at::Tensor& x, int64_t L, const BlockLayout& layout,
                           at::ScalarType dtype) {
  return layout.to_blocks(x).to(dtype).unflatten(2, {L, -1}).transpose(1, 2).contiguous();
}

// [M, L, C, G, D] → [N, L·G, D].
at::Tensor to_query_tokens(const at::Tensor& x, const BlockLayout& layout, at::ScalarType dtype) {
  return layout.to_tokens(x.transpose(1, 2).flatten(2, 3)).to(dtype);
}

// Everything both directions need, made from the inputs.
struct Blocks {
  Blocks(const at::Tensor& q_tokens, const at::Tensor& k_tokens, const at::Tensor& v_tokens,
         const at::Tensor& log_gate, int64_t L, const BlockLayout& layout, at::ScalarType dtype)
      : q(to_query_blocks(q_tokens, L, layout, dtype)),
        k(to_blocks(k_tokens, layout, dtype)),
        v(to_blocks(v_tokens, layout, dtype)),
        decays(block_decays(to_blocks(log_gate, layout, dtype))),
        reading(grouped_product(q, decays.from_start.unsqueeze(3))),
        writing(grouped_product(k, decays.to_end)) {}

  at::Tensor q;        // [M, L, C, G, K]
  at::Tensor k, v;     // [M, Hk, C, K], [M, Hv, C, V]
  BlockDecays decays;  // of log_gate [M, Hg, C, K or 1]
  at::Tensor reading;  // [M, L, C, G, K]: q as it reads the state before the block
  at::Tensor writing;  // [M, max(Hk, Hg), C, K]: k as the block's end has it
};

// [M, L, C, G, K] → the sum over query heads for each gate, [M, Hg, C, K or 1].
at::Tensor sum_to_gate(const at::Tensor& dlog, const at::Tensor& like) {
  const at::Tensor sum = sum_heads(dlog, like.size(1));
  return like.size(-1) == 1 ? sum.sum(-1, /*keepdim=*/true) : sum;
}

class ChunkedScan : public torch::autograd::Function<ChunkedScan> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                               const at::Tensor& v, const at::Tensor& log_gate,
                               const at::Tensor& initial_state,
                               const std::vector<int64_t>& lengths) {
    const at::ScalarType dtype = initial_state.scalar_type();
    const int64_t L = initial_state.size(1);
    const BlockLayout layout = make_layout(lengths, q.device());
    const Blocks x(q, k, v, log_gate, L, layout, dtype);

    const at::Tensor update = grouped_matmul(x.writing.mT(), x.v);  // [M, max of heads, K, V]
    const BlockStates::Carried states =
        BlockStates(layout, q.device()).carry(x.decays.whole, update, initial_state);

    const at::Tensor scores = block_scores(x.q, x.k, x.decays).flatten(2, 3);
    const at::Tensor out = grouped_matmul(scores, x.v);  // [M, L, C·G, V]
    out.flatten(0, 1).baddbmm_(x.reading.flatten(2, 3).flatten(0, 1), states.before.flatten(0, 1));

    context->set_materialize_grads(false);
    context->save_for_backward({q, k, v, log_gate, states.before});
    context->saved_data["lengths"] = lengths;
    return {to_query_tokens(out.unflatten(2, {x.q.size(2), x.q.size(3)}), layout, v.scalar_type()),
            states.last};
  }

  static variable_list backward(AutogradContext* context, variable_list douts) {
    refuse_double_backward("gated_scan");
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &log_gate = saved[3];
    const at::Tensor& before = saved[4];  // [M, L, K, V]
    const std::vector<int64_t> lengths = context->saved_data["lengths"].toIntVector();
    const at::ScalarType dtype = before.scalar_type();
    const int64_t L = before.size(1);
    const BlockLayout layout = make_layout(lengths, q.device());
    const Blocks x(q, k, v, log_gate, L, layout, dtype);
    const int64_t C = x.q.size(2), G = x.q.size(3);

    at::Tensor dout, dlast = douts[1];
    if (douts[0].defined()) {
      dout = to_query_blocks(douts[0], L, layout, dtype);
    } else {
      dout = at::zeros({x.q.size(0), L, C, G, before.size(3)}, before.options());
    }
    if (!dlast.defined()) {
      dlast = at::zeros({static_cast<int64_t>(lengths.size()), L, before.size(2), before.size(3)},
                        before.options());
    }
    const at::Tensor rows = dout.flatten(2, 3);  // [M, L, C·G, V]

    const at::Tensor dbefore = x.reading.flatten(2, 3).mT().matmul(rows);
    const BlockStates::Gradient dstates =
        BlockStates(layout, q.device()).carry_backward(x.decays.whole, dbefore, dlast);
    const at::Tensor& dupdate = dstates.after;  // [M, L, K, V]

    at::Tensor dv;
    if (context->needs_input_grad(2)) {
      const at::Tensor scores = block_scores(x.q, x.k, x.decays).flatten(2, 3);
      dv = sum_heads(scores.mT().matmul(rows), x.v.size(1)) +
           sum_heads(grouped_matmul(x.writing, dupdate), x.v.size(1));
      dv = to_tokens(dv, layout, v.scalar_type());
    }
    at::Tensor dq, dk, dlog_gate;
    if (context->needs_input_grad(0) || context->needs_input_grad(1) ||
        context->needs_input_grad(3)) {
      BlockScoresGradient dscores = block_scores_backward(
          grouped_matmul(rows, x.v.mT()).unflatten(2, {C, G}), x.q, x.k, x.decays);
      const at::Tensor dreading = rows.matmul(before.mT()).view_as(x.q);
      const at::Tensor dwriting = sum_heads(grouped_matmul(x.v, dupdate.mT()), x.writing.size(1));
      const at::Tensor& from_start = x.decays.from_start;
      if (context->needs_input_grad(3)) {
        BlockDecays dlog;
        dlog.to_border = std::move(dscores.to_border);
        dlog.from_start = sum_to_gate((dreading * x.reading).sum(3), from_start);
        dlog.to_end = sum_to_gate(dwriting * x.writing, from_start);
        dlog.whole = sum_to_gate((dupdate * before).sum(-1), x.decays.whole) * x.decays.whole;
        dlog_gate = to_tokens(block_decays_backward(dlog), layout, log_gate.scalar_type());
      }
      dq = dscores.q.add_(grouped_product(dreading, from_start.unsqueeze(3)));
      dk = dscores.k.add_(sum_heads(grouped_product(dwriting, x.decays.to_end), x.k.size(1)));
      dq = to_query_tokens(dq, layout, q.scalar_type());
      dk = to_tokens(dk, layout, k.scalar_type());
    }
    return {dq, dk, dv, dlog_gate, dstates.initial, Variable()};
  }
};

}  // namespace

GatedScanResult gated_scan_chunked(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const at::Tensor& log_gate, const Segments& segments,
                                   const at::Tensor& initial_state) {
  const variable_list results =
      ChunkedScan::apply(q, k, v, log_gate, initial_state, segments.lengths);
  return {results[0], results[1]};
}

}  // namespace tigon
