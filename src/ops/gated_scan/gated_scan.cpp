#include "ops/gated_scan/gated_scan.h"

#include <ATen/Functions.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <tuple>

#include "ops/checks.h"
#include "ops/gated_scan/gated_scan_arguments.h"
#include "ops/gated_scan/gated_scan_chunked.h"
#include "ops/gated_scan/head_groups.h"
#include "ops/gated_scan/without_delay.h"

namespace tigon {
namespace {

// Every segment has one token, as in decoding: a step of the recurrence for all of them at once.
GatedScanResult single_step(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const at::Tensor& log_gate, const Segments& /*segments*/,
                            const at::Tensor& initial_state) {
  const at::ScalarType dtype = initial_state.scalar_type();
  const int64_t L = initial_state.size(1);
  const at::Tensor update = grouped_product(k.to(dtype).unsqueeze(-1), v.to(dtype).unsqueeze(-2));
  const at::Tensor state =  // [S, L, K, V]
      split_heads(grouped_product(initial_state, log_gate.to(dtype).exp().unsqueeze(-1)),
                  update.size(1))
          .add(update.unsqueeze(2))
          .flatten(1, 2);
  const at::Tensor out = q.to(dtype).unflatten(1, {L, -1}).matmul(state).flatten(1, 2);
  return {out.to(v.scalar_type()), state};
}

std::tuple<at::Tensor, at::Tensor> gated_scan_op(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& log_gate,
    const at::Tensor& cu_seqlens, const std::optional<at::Tensor>& initial_state,
    int64_t state_heads, at::OptionalIntArrayRef lengths, bool normalizer, int64_t delay,
    const std::optional<at::Tensor>& key_cu_seqlens, at::OptionalIntArrayRef key_lengths) {
  const GatedScanResult result =
      gated_scan_plain(check_gated_scan(q, k, v, log_gate, cu_seqlens, initial_state, state_heads,
                                        lengths, normalizer, delay, key_cu_seqlens, key_lengths));
  return {result.out, result.state};
}

}  // namespace

GatedScanCall check_gated_scan(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const at::Tensor& log_gate, const at::Tensor& cu_seqlens,
                               const std::optional<at::Tensor>& initial_state, int64_t state_heads,
                               at::OptionalIntArrayRef lengths, bool normalizer, int64_t delay,
                               const std::optional<at::Tensor>& key_cu_seqlens,
                               at::OptionalIntArrayRef key_lengths) {
  check_shape("gated_scan", "q", q, {kAnySize, kAnySize, kAnySize});
  check_shape("gated_scan", "k", k, {kAnySize, kAnySize, kAnySize});
  const Segments segments = Segments::from_op_arguments(cu_seqlens, lengths, q.size(0));
  const GatedScanOptions options{
      state_heads, normalizer, delay,
      Segments::keys_from_op_arguments(key_cu_seqlens, key_lengths, k.size(0), segments)};
  return check_gated_scan(q, k, v, log_gate, segments, initial_state, options);
}

GatedScanResult gated_scan_plain(const GatedScanCall& delayed) {
  const GatedScanCall call = without_delay(delayed);
  const GatedScanArguments x(call);
  const Segments& segments = call.segments;
  if (segments.total == 0) {
    return {x.v.new_empty({0, call.q.size(1), x.v.size(2)}), x.initial_state.clone()};
  }
  const bool is_single_step = segments.are_equal && segments.longest == 1;
  const auto scan = is_single_step ? single_step : gated_scan_chunked;
  return scan(call.q, call.k, x.v, x.log_gate, segments, x.initial_state);
}

GatedScanResult gated_scan(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& log_gate, const Segments& segments,
                           const std::optional<at::Tensor>& initial_state,
                           const GatedScanOptions& options) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tigon::gated_scan", "")
                             .typed<decltype(gated_scan_op)>();
  std::optional<at::Tensor> key_cu_seqlens;
  at::OptionalIntArrayRef key_lengths;
  if (options.key_segments) {
    key_cu_seqlens = options.key_segments->cu_seqlens;
    key_lengths = options.key_segments->lengths;
  }
  const auto [out, state] =
      op.call(q, k, v, log_gate, segments.cu_seqlens, initial_state, options.state_heads,
              segments.lengths, options.normalizer, options.delay, key_cu_seqlens, key_lengths);
  return {out, state};
}

TORCH_LIBRARY_FRAGMENT(tigon, m) {
  m.def(
      "gated_scan(Tensor q, Tensor k, Tensor v, Tensor log_gate, Tensor cu_seqlens, "
      "Tensor? initial_state=None, int state_heads=0, int[]? lengths=None, bool normalizer=False, "
      "int delay=0, Tensor? key_cu_seqlens=None, int[]? key_lengths=None) "
      "-> (Tensor out, Tensor state)");
}

TORCH_LIBRARY_IMPL(tigon, CompositeImplicitAutograd, m) {
  m.impl("gated_scan", gated_scan_op);
}

}  // namespace tigon
