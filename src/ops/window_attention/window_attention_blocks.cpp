// Attention per block of queries against the blocks of keys it can see, batched over all blocks of
// all segments. Never a score of two tokens further apart than a window and a block.
#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <vector>

#include "ops/blocks.h"
#include "ops/checks.h"
#include "ops/window_attention/window_attention_call.h"

namespace tigon {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// As many scores as are held at once: 16 MiB in float32.
constexpr int64_t kScoresAtOnce = int64_t{1} << 22;

// Long blocks meet keys outside their window in vain, short ones gather each key for many blocks.
int64_t choose_block_size(int64_t window_keys, int64_t longest_queries) {
  const auto power = [](int64_t n) {
    return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(n, 1))));
  };
  const int64_t window = std::clamp<int64_t>(window_keys, 16, 256);
  return std::min(power(longest_queries), power(window));
}

// Queries lie at the same places of their blocks as their keys.
std::vector<int64_t> front_padding(const std::vector<int64_t>& lengths,
                                   const std::vector<int64_t>& key_lengths, int64_t block_size) {
  std::vector<int64_t> padding;
  for (size_t s = 0; s < lengths.size(); ++s) {
    padding.push_back((key_lengths[s] - lengths[s]) % block_size);
  }
  return padding;
}

// Which keys each block of queries meets. Shapes: n query blocks of B slots, m key blocks of B, L
// KV heads of G query heads each; a query block meets its own key block, the W−1 before it, and
// the sinks: B·W + sinks keys.
class BlockWindow {
  const int64_t B_, W_, window_keys_, sinks_;

 public:
  const BlockLayout queries, keys;

  BlockWindow(const std::vector<int64_t>& lengths, const std::vector<int64_t>& key_lengths,
              int64_t window_keys, int64_t sinks, at::Device device)
      : B_(choose_block_size(window_keys, *std::max_element(lengths.begin(), lengths.end()))),
        W_((window_keys + B_ - 2) / B_ + 1),
        window_keys_(window_keys),
        sinks_(sinks),
        queries(lengths, B_, device, front_padding(lengths, key_lengths, B_)),
        keys(key_lengths, B_, device) {
    std::vector<int64_t> key_blocks, sink_slots, starts;
    for (size_t s = 0; s < lengths.size(); ++s) {
      const int64_t first_query_block = (key_lengths[s] - lengths[s]) / B_;
      for (int64_t i = 0; i < queries.block_counts[s]; ++i) {
        const int64_t own = first_query_block + i;
        starts.push_back(own * B_);
        for (int64_t b = own - W_ + 1; b <= own; ++b) {
          key_blocks.push_back(keys.first_block[s] + std::max<int64_t>(b, 0));
        }
        const int64_t last_slot = keys.block_counts[s] * B_ - 1;
        for (int64_t j = 0; j < sinks_; ++j) {
          sink_slots.push_back(keys.first_block[s] * B_ + std::min(j, last_slot));
        }
      }
    }
    key_blocks_ = at::tensor(key_blocks, at::kLong).to(device);
    sink_slots_ = at::tensor(sink_slots, at::kLong).to(device);
    starts_ = at::tensor(starts, at::kLong).to(device).view({-1, 1, 1});
    const at::Tensor slot = at::arange(B_, starts_.options()).unsqueeze(1);  // [B, 1]
    const at::Tensor key = at::arange((1 - W_) * B_, B_, starts_.options());
    key_places_ = key;
    query_places_ = slot;
    out_of_window_ = (key > slot).logical_or_(key <= slot - window_keys);
  }

  // Query blocks whose scores are held at once, for L heads with G query heads each.
  int64_t blocks_at_once(int64_t heads) const {
    return std::max<int64_t>(1, kScoresAtOnce / (heads * B_ * (B_ * W_ + sinks_)));
  }

  // Keys or values [L, m, B, D] that query blocks first … first+n−1 meet: [L, n, B·W+sinks, D].
  at::Tensor gather(const at::Tensor& x, int64_t first, int64_t n) const {
    const at::Tensor near = x.index_select(1, key_blocks_.narrow(0, first * W_, n * W_))
                                .view({x.size(0), n, W_ * B_, x.size(3)});
    if (sinks_ == 0) return near;
    const at::Tensor far = x.flatten(1, 2)
                               .index_select(1, sink_slots_.narrow(0, first * sinks_, n * sinks_))
                               .view({x.size(0), n, sinks_, x.size(3)});
    return at::cat({near, far}, 2);
  }

  // The transpose of gather: adds dgathered [L, n, B·W+sinks, D] to dx [L, m, B, D].
  void scatter_add(const at::Tensor& dx, const at::Tensor& dgathered, int64_t first,
                   int64_t n) const {
    const at::Tensor near = dgathered.narrow(2, 0, W_ * B_);
    dx.index_add_(1, key_blocks_.narrow(0, first * W_, n * W_),
                  near.reshape({dx.size(0), n * W_, B_, dx.size(3)}));
    if (sinks_ == 0) return;
    const at::Tensor far = dgathered.narrow(2, W_ * B_, sinks_);
    dx.flatten(1, 2).index_add_(1, sink_slots_.narrow(0, first * sinks_, n * sinks_),
                                far.reshape({dx.size(0), n * sinks_, dx.size(3)}));
  }

  // Which of the gathered keys each query must not see: [n, B, 1, B·W+sinks]. A slot of a query
  // block always sees the key of its own place, so no softmax is empty.
  at::Tensor hidden(int64_t first, int64_t n) const {
    const at::Tensor start = starts_.narrow(0, first, n);  // [n, 1, 1]
    at::Tensor hidden = out_of_window_.logical_or(start + key_places_ < 0);
    if (sinks_ > 0) {  // a sink inside the window is already there
      const at::Tensor sink = at::arange(sinks_, starts_.options());
      hidden = at::cat({hidden, sink > start + query_places_ - window_keys_}, 2);
    }
    return hidden.unsqueeze(2);
  }

 private:
  at::Tensor key_blocks_;     // [n·W]: number of each key block; block 0 where there is none
  at::Tensor sink_slots_;     // [n·sinks]: slot of each sink in the key blocks
  at::Tensor starts_;         // [n, 1, 1]: place in its segment of each query block's first slot
  at::Tensor query_places_;   // [B, 1]: relative to it
  at::Tensor key_places_;     // [W·B]: relative to it
  at::Tensor out_of_window_;  // [B, W·B]
};

// [N, L·G, D] → [L, n, B·G, D].
at::Tensor to_rows(const at::Tensor& x, int64_t L, const BlockLayout& layout,
                   at::ScalarType dtype) {
  return layout.to_blocks(x)
      .to(dtype)
      .unflatten(2, {L, -1})
      .permute({2, 0, 1, 3, 4})
      .contiguous()
      .flatten(2, 3);
}

// [L, n, B·G, D] → [N, L·G, D].
at::Tensor from_rows(const at::Tensor& x, const BlockLayout& layout, at::ScalarType dtype) {
  return layout
      .to_tokens(x.unflatten(2, {layout.block_size, -1}).permute({1, 2, 0, 3, 4}).flatten(2, 3))
      .to(dtype);
}

// Attention weights of query blocks: q [L, n, B·G, D] already scaled, k [L, n, Kb, D] →
// [L, n, B·G, Kb]; if asked for, their log-sum-exp goes to lse [L, n, B·G, 1].
at::Tensor weights(const at::Tensor& q, const at::Tensor& k, const at::Tensor& hidden,
                   const at::Tensor& lse) {
  const at::Tensor scores = q.matmul(k.mT());
  scores.unflatten(2, {hidden.size(1), -1})
      .masked_fill_(hidden, -std::numeric_limits<double>::infinity());
  if (lse.defined()) lse.copy_(scores.logsumexp(-1, /*keepdim=*/true));
  return scores.softmax(-1);
}

class BlockAttention : public torch::autograd::Function<BlockAttention> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                               const at::Tensor& v, const WindowAttentionCall& call) {
    const WindowAttentionOptions& options = call.options;
    const BlockWindow window(call.segments.lengths, call.key_segments.lengths, options.window_keys,
                             options.sinks, q.device());
    const at::ScalarType dtype = accumulation_type(q.scalar_type());
    const int64_t L = k.size(1);
    const at::Tensor queries = to_rows(q, L, window.queries, dtype) * options.scale;
    const at::Tensor keys = to_rows(k, L, window.keys, dtype);
    const at::Tensor values = to_rows(v, L, window.keys, dtype);
    const at::Tensor out = at::empty_like(queries);
    const at::Tensor lse =
        options.return_lse ? at::empty_like(queries.narrow(3, 0, 1)) : at::Tensor();
    const int64_t n = queries.size(1), step = window.blocks_at_once(q.size(1));
    for (int64_t first = 0; first < n; first += step) {
      const int64_t size = std::min(step, n - first);
      const at::Tensor p = weights(queries.narrow(1, first, size), window.gather(keys, first, size),
                                   window.hidden(first, size),
                                   lse.defined() ? lse.narrow(1, first, size) : at::Tensor());
      out.narrow(1, first, size).copy_(p.matmul(window.gather(values, first, size)));
    }
    context->set_materialize_grads(false);
    context->save_for_backward({q, k, v});
    context->saved_data["lengths"] = call.segments.lengths;
    context->saved_data["key_lengths"] = call.key_segments.lengths;
    context->saved_data["window_keys"] = options.window_keys;
    context->saved_data["sinks"] = options.sinks;
    context->saved_data["scale"] = options.scale;
    variable_list results = {from_rows(out, window.queries, q.scalar_type())};
    if (lse.defined()) results.push_back(from_rows(lse, window.queries, dtype).squeeze(2));
    return results;
  }

  static variable_list backward(AutogradContext* context, variable_list douts) {
    refuse_double_backward("window_attention");
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2];
    auto& data = context->saved_data;
    const BlockWindow window(data["lengths"].toIntVector(), data["key_lengths"].toIntVector(),
                             data["window_keys"].toInt(), data["sinks"].toInt(), q.device());
    const double scale = data["scale"].toDouble();
    const at::ScalarType dtype = accumulation_type(q.scalar_type());
    const int64_t L = k.size(1);
    const at::Tensor queries = to_rows(q, L, window.queries, dtype) * scale;
    const at::Tensor keys = to_rows(k, L, window.keys, dtype);
    const at::Tensor values = to_rows(v, L, window.keys, dtype);
    at::Tensor dout, dlse;
    if (douts[0].defined()) dout = to_rows(douts[0], L, window.queries, dtype);
    if (douts.size() > 1 && douts[1].defined()) {
      dlse = to_rows(douts[1].unsqueeze(2), L, window.queries, dtype);
    }

    at::Tensor dq, dk, dv;
    if (context->needs_input_grad(0)) dq = at::empty_like(queries);
    if (context->needs_input_grad(1)) dk = at::zeros_like(keys);
    if (context->needs_input_grad(2)) dv = at::zeros_like(values);
    const int64_t n = queries.size(1), step = window.blocks_at_once(q.size(1));
    for (int64_t first = 0; first < n; first += step) {
      const int64_t size = std::min(step, n - first);
      const at::Tensor rows = queries.narrow(1, first, size);
      const at::Tensor seen = window.gather(keys, first, size);
      const at::Tensor p = weights(rows, seen, window.hidden(first, size), {});
      at::Tensor dscores;
      if (dout.defined()) {
        const at::Tensor drows = dout.narrow(1, first, size);
        if (dv.defined()) window.scatter_add(dv, p.mT().matmul(drows), first, size);
        if (!dq.defined() && !dk.defined()) continue;
        const at::Tensor dp = drows.matmul(window.gather(values, first, size).mT());
        dscores = at::_softmax_backward_data(dp, p, -1, dtype);
        if (dlse.defined()) dscores.addcmul_(p, dlse.narrow(1, first, size));
      } else {
        dscores = p * dlse.narrow(1, first, size);
      }
      if (dq.defined()) dq.narrow(1, first, size).copy_(dscores.matmul(seen));
      if (dk.defined()) window.scatter_add(dk, dscores.mT().matmul(rows), first, size);
    }
    if (dq.defined()) dq = from_rows(dq.mul_(scale), window.queries, q.scalar_type());
    if (dk.defined()) dk = from_rows(dk, window.keys, k.scalar_type());
    if (dv.defined()) dv = from_rows(dv, window.keys, v.scalar_type());
    return {dq, dk, dv, Variable()};
  }
};

}  // namespace

WindowAttentionResult window_attention_blocks(const WindowAttentionCall& call) {
  if (call.segments.total == 0) {
    return {call.q.clone(),
            call.options.return_lse ? call.q.new_empty({0, call.q.size(1)}) : at::Tensor()};
  }
  const variable_list results = BlockAttention::apply(call.q, call.k, call.v, call);
  return {results[0], call.options.return_lse ? results[1] : at::Tensor()};
}

}  // namespace tigon
