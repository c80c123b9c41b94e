// A call of window_attention after its checks, and its plain definition: what window_attention.cpp
// and the GPU implementation share.
#pragma once
#include <optional>
#include <tuple>

#include "ops/window_attention/window_attention.h"

namespace tigon {

struct WindowAttentionCall {
  at::Tensor q, k, v;
  Segments segments, key_segments;
  WindowAttentionOptions options;  // scale is never 0
};

/// From the schema's arguments. Throws with name, expected and found for every one that does not
/// fit.
WindowAttentionCall check_window_attention(const at::Tensor& q, const at::Tensor& k,
                                           const at::Tensor& v, const at::Tensor& cu_seqlens,
                                           int64_t window_keys, int64_t sinks,
                                           std::optional<double> scale, bool return_lse,
                                           const std::optional<at::Tensor>& key_cu_seqlens,
                                           at::OptionalIntArrayRef lengths,
                                           at::OptionalIntArrayRef key_lengths);

/// The plain definition, for any device.
WindowAttentionResult window_attention_plain(const WindowAttentionCall& call);

/// The part of it that works on blocks of queries and the keys they can see; window_keys > 0.
WindowAttentionResult window_attention_blocks(const WindowAttentionCall& call);

}  // namespace tigon
