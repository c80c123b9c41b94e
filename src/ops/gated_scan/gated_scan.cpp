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

// The key that each query's step takes in, for k, v and log_gate alike: [M, …] → [N, …], zeros
// where a segment has none yet, which is a step that changes nothing.
class KeyOfStep {
 public:
  KeyOfStep(const Segments& queries, const Segments& keys, int64_t delay)
      : is_own_(delay == 0 && queries.lengths == keys.lengths) {
    if (is_own_) return;
    const at::Device device = queries.cu_seqlens.device();
    at::Tensor rows = at::empty({queries.total}, at::kLong);
    at::Tensor missing = at::zeros({queries.total}, at::kBool);
    int64_t* row = rows.data_ptr<int64_t>();
    bool* is_missing = missing.data_ptr<bool>();
    int64_t key_end = 0;
    for (int64_t s = 0; s < queries.count(); ++s) {
      const int64_t first_key = key_end;
      key_end += keys.lengths[s];
      for (int64_t i = queries.lengths[s]; i > 0; --i) {
        const int64_t key = key_end - i - delay;
        *is_missing++ = key < first_key;
        *row++ = std::max(key, first_key);
      }
    }
    rows_ = rows.to(device);
    missing_ = missing.to(device).view({-1, 1, 1});
  }

  at::Tensor of(const at::Tensor& x) const {
    return is_own_ ? x : x.index_select(0, rows_).masked_fill(missing_, 0);
  }

 private:
  bool is_own_;         // every step takes in its query's own key
  at::Tensor rows_;     // [N] int64
  at::Tensor missing_;  // [N, 1, 1] bool
};

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

GatedScanResult gated_scan_plain(const GatedScanCall& call) {
  const GatedScanArguments x(call);
  const Segments& segments = call.segments;
  if (segments.total == 0) {
    return {x.v.new_empty({0, call.q.size(1), x.v.size(2)}), x.initial_state.clone()};
  }
  const KeyOfStep key(segments, call.key_segments, call.delay);
  const bool is_single_step = segments.are_equal && segments.longest == 1;
  const auto scan = is_single_step ? single_step : gated_scan_chunked;
  return scan(call.q, key.of(call.k), key.of(x.v), key.of(x.log_gate), segments, x.initial_state);
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
