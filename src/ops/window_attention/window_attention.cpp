#include "ops/window_attention/window_attention.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "ops/window_attention/window_attention_call.h"

namespace tigon {
namespace {

std::tuple<at::Tensor, at::Tensor> window_attention_op(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& cu_seqlens,
    int64_t window_keys, int64_t sinks, std::optional<double> scale, bool return_lse,
    const std::optional<at::Tensor>& key_cu_seqlens, at::OptionalIntArrayRef lengths,
    at::OptionalIntArrayRef key_lengths) {
  const WindowAttentionResult result = window_attention_plain(
      check_window_attention(q, k, v, cu_seqlens, window_keys, sinks, scale, return_lse,
                             key_cu_seqlens, lengths, key_lengths));
  return {result.out, result.lse};
}

}  // namespace

WindowAttentionResult window_attention(const at::Tensor& q, const at::Tensor& k,
                                       const at::Tensor& v, const Segments& segments,
                                       const Segments& key_segments,
                                       const WindowAttentionOptions& options) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tigon::window_attention", "")
                             .typed<decltype(window_attention_op)>();
  const auto scale = options.scale == 0 ? std::nullopt : std::optional<double>(options.scale);
  const auto [out, lse] =
      op.call(q, k, v, segments.cu_seqlens, options.window_keys, options.sinks, scale,
              options.return_lse, key_segments.cu_seqlens, segments.lengths, key_segments.lengths);
  return {out, lse};
}

TORCH_LIBRARY_FRAGMENT(tigon, m) {
  m.def(
      "window_attention(Tensor q, Tensor k, Tensor v, Tensor cu_seqlens, int window_keys=0, "
      "int sinks=0, float? scale=None, bool return_lse=True, Tensor? key_cu_seqlens=None, "
      "int[]? lengths=None, int[]? key_lengths=None) -> (Tensor out, Tensor lse)");
}

TORCH_LIBRARY_IMPL(tigon, CompositeImplicitAutograd, m) {
  m.impl("window_attention", window_attention_op);
}

}  // namespace tigon
