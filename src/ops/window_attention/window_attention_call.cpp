#include "ops/window_attention/window_attention_call.h"

#include <c10/util/Exception.h>

#include <cmath>

#include "ops/checks.h"

namespace tigon {

WindowAttentionCall check_window_attention(const at::Tensor& q, const at::Tensor& k,
                                           const at::Tensor& v, const at::Tensor& cu_seqlens,
                                           int64_t window_keys, int64_t sinks,
                                           std::optional<double> scale, bool return_lse,
                                           const std::optional<at::Tensor>& key_cu_seqlens,
                                           at::OptionalIntArrayRef lengths,
                                           at::OptionalIntArrayRef key_lengths) {
  constexpr const char* kOp = "window_attention";
  check_queries_keys_values(kOp, q, k, v);
  check_device(kOp, "k", k, q);
  check_device(kOp, "v", v, q);
  TORCH_CHECK(k.size(1) > 0 && q.size(1) % k.size(1) == 0,
              "[window_attention] k: expected a number of heads that divides the ", q.size(1),
              " of q, found ", k.size(1));
  TORCH_CHECK(q.size(2) > 0, "[window_attention] q: expected a head size above 0, found 0");
  TORCH_CHECK(window_keys >= 0, "[window_attention] window_keys: expected 0 or more, found ",
              window_keys);
  TORCH_CHECK(sinks >= 0, "[window_attention] sinks: expected 0 or more, found ", sinks);
  TORCH_CHECK(!scale.has_value() || (std::isfinite(*scale) && *scale != 0),
              "[window_attention] scale: expected a finite number other than 0, found ", *scale);

  WindowAttentionCall call{q, k, v, {}, {}, {}};
  call.segments = Segments::from_op_arguments(cu_seqlens, lengths, q.size(0));
  call.key_segments =
      Segments::keys_from_op_arguments(key_cu_seqlens, key_lengths, k.size(0), call.segments);
  call.options.window_keys = window_keys;
  call.options.sinks = sinks;
  call.options.scale = scale.value_or(1 / std::sqrt(static_cast<double>(q.size(2))));
  call.options.return_lse = return_lse;
  return call;
}

}  // namespace tigon
