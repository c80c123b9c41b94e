#include "ops/gated_scan/gated_scan.h"

#include <ATen/Functions.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>

#include "ops/checks.h"
#include "ops/gated_scan/gated_scan_arguments.h"
#include "ops/gated_scan/gated_scan_chunked.h"
#include "ops/gated_scan/head_groups.h"

namespace tigon {
namespace {

// Every segment has one token, as in decoding: a step of the recurrence for all of them at once.
GatedScanResult single_step(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const GatedScanArguments& x) {
  const at::ScalarType dtype = x.initial_state.scalar_type();
  const int64_t L = x.initial_state.size(1);
  const at::Tensor update = grouped_product(k.to(dtype).unsqueeze(-1), v.to(dtype).unsqueeze(-2));
  const at::Tensor state =  // [S, L, K, V]
      split_heads(grouped_product(x.initial_state, x.log_gate.to(dtype).exp().unsqueeze(-1)),
                  update.size(1))
          .add(update.unsqueeze(2))
          .flatten(1, 2);
  const at::Tensor out = q.to(dtype).unflatten(1, {L, -1}).matmul(state).flatten(1, 2);
  return {out.to(v.scalar_type()), state};
}

std::tuple<at::Tensor, at::Tensor> gated_scan_op(const at::Tensor& q, const at::Tensor& k,
                                                 const at::Tensor& v, const at::Tensor& log_gate,
                                                 const at::Tensor& cu_seqlens,
                                                 const std::optional<at::Tensor>& initial_state,
                                                 int64_t state_heads,
                                                 at::OptionalIntArrayRef lengths) {
  check_shape("gated_scan", "q", q, {kAnySize, kAnySize, kAnySize});
  const Segments segments = Segments::from_op_arguments(cu_seqlens, lengths, q.size(0));
  const GatedScanArguments x(q, k, v, log_gate, segments, initial_state, state_heads);
  GatedScanResult result;
  if (segments.total == 0) {
    result = {v.new_empty({0, q.size(1), v.size(2)}), x.initial_state.clone()};
  } else if (segments.are_equal && segments.longest == 1) {
    result = single_step(q, k, v, x);
  } else {
    result = gated_scan_chunked(q, k, v, x.log_gate, segments, x.initial_state);
  }
  return {result.out, result.state};
}

}  // namespace

GatedScanResult gated_scan(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& log_gate, const Segments& segments,
                           const std::optional<at::Tensor>& initial_state, int64_t state_heads) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tigon::gated_scan", "")
                             .typed<decltype(gated_scan_op)>();
  const auto [out, state] =
      op.call(q, k, v, log_gate, segments.cu_seqlens, initial_state, state_heads, segments.lengths);
  return {out, state};
}

TORCH_LIBRARY_FRAGMENT(tigon, m) {
  m.def(
      "gated_scan(Tensor q, Tensor k, Tensor v, Tensor log_gate, Tensor cu_seqlens, "
      "Tensor? initial_state=None, int state_heads=0, int[]? lengths=None) "
      "-> (Tensor out, Tensor state)");
}

TORCH_LIBRARY_IMPL(tigon, CompositeImplicitAutograd, m) {
  m.impl("gated_scan", gated_scan_op);
}

}  // namespace tigon
