#include <ATen/Functions.h>

#include <algorithm>
#include <vector>

#include "ops/window_attention/window_attention_call.h"

namespace tigon {
namespace {

// Every key up to the query. q [S, T, H, D], k and v [S, Tk, Hkv, D], the queries being the last T
// keys. → [S, T, H, D]
at::Tensor full_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          double scale) {
  const int64_t T = q.size(1), Tk = k.size(1), Hkv = k.size(2);
  const at::Tensor keys = k.transpose(1, 2), values = v.transpose(1, 2);  // [S, Hkv, Tk, D]
  if (T == 1) {  // no mask, and the query heads of a group are the rows
    const at::Tensor rows = q.squeeze(1).unflatten(1, {Hkv, -1});  // [S, Hkv, G, D]
    return at::scaled_dot_product_attention(rows, keys, values, {}, 0, false, scale)
        .flatten(1, 2)
        .unsqueeze(1);
  }
  std::optional<at::Tensor> visible;
  if (T != Tk) visible = at::ones({T, Tk}, q.options().dtype(at::kBool)).tril(Tk - T);
  return at::scaled_dot_product_attention(q.transpose(1, 2), keys, values, visible, 0, T == Tk,
                                          scale, /*enable_gqa=*/true)
      .transpose(1, 2);
}

at::Tensor full_attention(const WindowAttentionCall& call) {
  const Segments &queries = call.segments, &keys = call.key_segments;
  if (queries.are_equal && keys.are_equal) {
    const int64_t S = queries.count();
    return full_attention(call.q.unflatten(0, {S, queries.longest}),
                          call.k.unflatten(0, {S, keys.longest}),
                          call.v.unflatten(0, {S, keys.longest}), call.options.scale)
        .flatten(0, 1);
  }
  std::vector<at::Tensor> outs;
  int64_t query = 0, key = 0;
  for (int64_t s = 0; s < queries.count(); ++s) {
    const int64_t T = queries.lengths[s], Tk = keys.lengths[s];
    if (T > 0) {
      outs.push_back(full_attention(call.q.narrow(0, query, T).unsqueeze(0),
                                    call.k.narrow(0, key, Tk).unsqueeze(0),
                                    call.v.narrow(0, key, Tk).unsqueeze(0), call.options.scale)
                         .squeeze(0));
    }
    query += T;
    key += Tk;
  }
  return at::cat(outs);
}

}  // namespace

WindowAttentionResult window_attention_plain(const WindowAttentionCall& call) {
  const int64_t window_keys = call.options.window_keys, longest = call.key_segments.longest;
  const bool sees_all = window_keys == 0 || window_keys >= longest;
  // Ragged short segments (rings that are filling up) are faster as blocks than one by one.
  const bool in_one_call = call.segments.are_equal && call.key_segments.are_equal;
  if (call.segments.total > 0 && !call.options.return_lse && sees_all &&
      (window_keys == 0 || in_one_call)) {
    return {full_attention(call), {}};
  }
  WindowAttentionCall blocks = call;
  if (sees_all) {
    blocks.options.window_keys = std::max<int64_t>(longest, 1);
    blocks.options.sinks = 0;
  }
  return window_attention_blocks(blocks);
}

}  // namespace tigon
